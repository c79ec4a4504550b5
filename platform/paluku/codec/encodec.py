"""EnCodec at 24 kHz: the published architecture and weights, streaming exactly, trainable.

Défossez et al. 2022, "High Fidelity Neural Audio Compression". Encoder and decoder are package
`encodec`'s own modules; the quantizer is ours, which chooses the same codes and can be trained.

**A fresh stream has heard silence.** The library begins a sequence by reflection: the first frame's code
depends on the six frames after it, which no stream has. The honest law is therefore: what this codec gives,
offline and streaming alike, is what the library gives offline for the wave preceded by `silence_frames`
(7) frames of digital silence, without those frames; and its decoder begins as if it had decoded the
silence's codes. Reflection is then all inside the silence, and the same for every stream.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from paluku.codec import encodec_layout as layout
from paluku.codec import seanet
from paluku.codec.causal import CausalCodec
from paluku.codec.encodec_config import EncodecConfig
from paluku.codec.published import Weights, find, read_tensors
from paluku.codec.quantizer import Quantized, ResidualQuantizer
from paluku.nn.state import State, leaves, update_
from paluku.shapes import Codes, Latent, Mask, MonoWave
from paluku.torchaudio_cpu import prepare_torchaudio

prepare_torchaudio()  # which `encodec` imports

from encodec.modules.seanet import SEANetDecoder, SEANetEncoder  # noqa: E402

PUBLISHED = {
    "encodec_24khz": Weights(
        name="encodec_24khz",
        file="encodec_24khz-d7cc33bc.th",
        url="https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th",
        licence="CC BY-NC 4.0 by the package's metadata (its repository's code: MIT)",
        sha256="d7cc33bc",  # the file's name tells so much and no more
    )
}
# An LSTM never forgets for certain. With forget gates of a half, 2^-75 is left of it after a second.
LSTM_REACH_FRAMES = 75


class StreamState(NamedTuple):
    """One seat a row; zero is fresh."""

    begun: Bool[Tensor, "B"]  # a seat that has not begun takes the state that silence leaves
    layers: State


class EncodecCodec(CausalCodec):
    """Implements `codec.port.Codec`; trains like the native codec (`forward`, `latents`, `quantizer`).

    Call `eval()` before streaming: the state that silence leaves is then computed once. In training mode,
    where weights change, it is computed anew each time.
    """

    def __init__(self, config: EncodecConfig) -> None:
        super().__init__()
        self.config = config
        sizes: dict[str, Any] = {
            "dimension": config.dimension,
            "n_filters": config.n_filters,
            "ratios": list(config.ratios),
            "lstm": config.lstm_layers,
            "causal": True,
            "norm": "none",  # put on below: the library's is deprecated, and cannot be copied
        }
        self.encoder, self.decoder = SEANetEncoder(**sizes), SEANetDecoder(**sizes)
        self.quantizer = ResidualQuantizer(
            config.num_codebooks, config.codebook_size, config.dimension, config.quantizer
        )
        if config.weight_norm:
            for convolution in seanet.convolutions(self):
                weight_norm(convolution)
        self.silence_frames = max(
            seanet.frames_to_begin(self.encoder.model, config.frame_samples),
            seanet.frames_to_begin(self.decoder.model, 1),
        )
        self._after_silence: dict[int, Any] = {}

    @staticmethod
    def from_published(name_or_path: str, config: EncodecConfig | None = None) -> "EncodecCodec":
        """The codec with published weights: `encodec_24khz`, or the path of such a file; in eval mode.

        `config` chooses the bandwidth, and `weight_norm=True` for fine-tuning.

        Raises:
            CheckpointError: when the file is missing, cut off, another one, or of other sizes.
            StorageError: when it cannot be stored.
        """
        codec, path = EncodecCodec(config or EncodecConfig()), find(name_or_path, PUBLISHED)
        codec.load_state_dict(layout.converted(read_tensors(path), codec.state_dict(), str(path)))
        return codec.eval()

    @staticmethod
    def seeded(seed: int, config: EncodecConfig) -> "EncodecCodec":
        """Random weights, and codebooks fitted to what they make of noise, so that codes vary."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            codec = EncodecCodec(config)
            frames = -(-4 * config.codebook_size // 8)
            noise = torch.randn(8, 1, frames * config.frame_samples)
        with torch.no_grad():
            codec.quantizer.initialise_(codec.latents(noise))
        return codec.eval()

    def folded(self) -> "EncodecCodec":
        """The same function with weight_norm multiplied out, in eval mode: for serving a fine-tuned one."""
        folded = EncodecCodec(self.config.model_copy(update={"weight_norm": False}))
        folded.load_state_dict(layout.multiplied_out(self.state_dict()))
        return folded.to(self.quantizer.codebooks.device).eval()

    @property
    def encode_reach_frames(self) -> int:
        """The convolutions' exactly, plus a second for the LSTM, which forgets gradually."""
        return LSTM_REACH_FRAMES + -(-seanet.reach(self.encoder.model, 1) // self.frame_samples)

    @property
    def decode_reach_frames(self) -> int:
        """The same of the decoder."""
        reach = seanet.reach(self.decoder.model, self.frame_samples)
        return LSTM_REACH_FRAMES + -(-reach // self.frame_samples)

    def forward(
        self, wave: MonoWave, num_codebooks: Int[Tensor, "B"] | None
    ) -> tuple[MonoWave, Quantized | None]:
        """For training: the decoded wave and what the quantizer learns from; the silence is no part of it.

        Example `b` is coded with `num_codebooks[b]` codebooks; `None` leaves the latents unquantised.
        """
        before, latents = self._encoded(wave)
        before = before.detach()
        if num_codebooks is None:
            return self._decoded(before, latents), None
        quantized = self.quantizer(latents, num_codebooks)
        return self._decoded(self.quantizer(before, num_codebooks).latents, quantized.latents), quantized

    def latents(self, wave: MonoWave) -> Latent:
        """`[B, 1, S]` to `[B, D, T]`, what the quantizer codes; `S` must be whole frames."""
        return self._encoded(wave)[1]

    @torch.no_grad()
    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]`; `S` must be whole frames."""
        return self.quantizer.encode(self.latents(wave))

    @torch.no_grad()
    def decode(self, codes: Codes) -> MonoWave:
        """`[B, k, T]` to `[B, 1, S]`, with the first `k <= K` codebooks."""
        before = self._silent_latents(codes.shape[1]).expand(len(codes), -1, -1)
        return self._decoded(before, self.quantizer.decode(codes))

    def init_encode_state(self, batch: int) -> StreamState:
        """Fresh (zero) state of `batch` seats."""
        return self._fresh(self.encoder.model, batch)

    def init_decode_state(self, batch: int) -> StreamState:
        """Fresh (zero) state of `batch` seats."""
        return self._fresh(self.decoder.model, batch)

    @torch.no_grad()
    def encode_step(self, state: StreamState, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next whole frames of each seat."""
        self._check(wave)
        _begin_(state, self._heard_silence()[1], exec_mask)
        return self.quantizer.encode(seanet.step(self.encoder.model, state.layers, wave, exec_mask))

    @torch.no_grad()
    def decode_step(self, state: StreamState, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The next whole frames of each seat; a stream begins at the depth of its first codes."""
        _begin_(state, self._said_silence(codes.shape[1]), exec_mask)
        return seanet.step(self.decoder.model, state.layers, self.quantizer.decode(codes), exec_mask)

    def train(self, mode: bool = True) -> "EncodecCodec":
        """As torch's; forgets what the weights made of silence."""
        self._after_silence.clear()
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As torch's; forgets what the old weights made of silence."""
        self._after_silence.clear()
        return super().load_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> "EncodecCodec":
        self._after_silence.clear()  # it lies on the old device
        return super()._apply(*args, **kwargs)

    def _encoded(self, wave: MonoWave) -> tuple[Float[Tensor, "B D N"], Latent]:
        """Latents of the silence before, and of the wave."""
        self._check(wave)
        silence = wave.new_zeros(len(wave), 1, self.silence_frames * self.frame_samples)
        latents = self.encoder(torch.cat((silence, wave), dim=-1))
        return latents[..., : self.silence_frames], latents[..., self.silence_frames :]

    def _decoded(self, before: Float[Tensor, "B D N"], latents: Latent) -> MonoWave:
        return self.decoder(torch.cat((before, latents), dim=-1))[
            ..., before.shape[-1] * self.frame_samples :
        ]

    def _fresh(self, layers: nn.Module, batch: int) -> StreamState:
        begun = torch.zeros(batch, dtype=torch.bool, device=self.quantizer.codebooks.device)
        return StreamState(begun, seanet.init_state(layers, batch))

    def _heard_silence(self) -> tuple[Codes, State]:
        """The silence's codes `[1, K, T]`, and the encoder's state after it."""

        def hear() -> tuple[Codes, State]:
            wave = self.quantizer.codebooks.new_zeros(1, 1, self.silence_frames * self.frame_samples)
            latents, state = seanet.begin(self.encoder.model, wave)
            return self.quantizer.encode(latents), state

        return self._remembered(0, hear)

    def _said_silence(self, depth: int) -> State:
        """The decoder's state after the silence's first `depth` rows of codes."""
        return self._remembered(
            depth, lambda: seanet.begin(self.decoder.model, self._silent_latents(depth))[1]
        )

    def _silent_latents(self, depth: int) -> Latent:
        return self.quantizer.decode(self._heard_silence()[0][:, :depth])

    def _remembered(self, key: int, make: Callable[[], Any]) -> Any:
        """Once for given weights (0: the encoder's, k: the decoder's at depth k); anew while they train."""
        if self.training:
            return make()
        if key not in self._after_silence:
            self._after_silence[key] = make()
        return self._after_silence[key]

    def _check(self, wave: MonoWave) -> None:
        samples, frame = wave.shape[-1], self.frame_samples
        assert samples % frame == 0, f"{samples} samples are no whole frames of {frame}"


def _begin_(state: StreamState, after_silence: State, exec_mask: Mask) -> None:
    """Seats that now hear their first frame take the state that silence leaves, in place."""
    fresh = exec_mask & ~state.begun
    for leaf, value in zip(leaves(state.layers), leaves(after_silence), strict=True):
        update_(leaf, value.expand_as(leaf), fresh)
    state.begun.logical_or_(exec_mask)
