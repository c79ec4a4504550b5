"""What a codec is to the rest of Paluku. Law: streaming equals offline for any chunking.

A codec that needs samples of the future streams late: what its steps give is what offline gives, moved by
`encode_lookahead_frames` and `decode_lookahead_frames`. A causal codec has none of either.
"""

from typing import Protocol, runtime_checkable

from paluku.nn.state import State
from paluku.shapes import Codes, Mask, MonoWave


@runtime_checkable
class Codec(Protocol):
    """Waves in, codes out, and back; offline, and streaming over `B` seats with explicit state."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waves it takes and gives."""
        ...

    @property
    def frame_samples(self) -> int:
        """Samples in one codec frame."""
        ...

    @property
    def frame_rate_hz(self) -> float:
        """Codec frames per second."""
        ...

    @property
    def num_codebooks(self) -> int:
        """`K`."""
        ...

    @property
    def codebook_size(self) -> int:
        """`V`; codes lie in `[0, V)`."""
        ...

    @property
    def delay_samples(self) -> int:
        """By how much `decode(encode(wave))` lags behind the wave, offline and streaming alike."""
        ...

    @property
    def encode_lookahead_frames(self) -> int:
        """How many frames a streamed code is later than offline; the first ones are without meaning."""
        ...

    @property
    def decode_lookahead_frames(self) -> int:
        """The same of streamed samples."""
        ...

    @property
    def encode_reach_frames(self) -> int:
        """After how many frames an encoder's state has forgotten what came before them."""
        ...

    @property
    def decode_reach_frames(self) -> int:
        """After how many frames a decoder's state has forgotten what came before them."""
        ...

    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]` with `T = S / samples per frame`; `S` must be whole frames."""
        ...

    def decode(self, codes: Codes) -> MonoWave:
        """`[B, K, T]` to `[B, 1, S]`; fewer than `K` codebooks are allowed and give lower quality."""
        ...

    def init_encode_state(self, batch: int) -> State:
        """Fresh (zero) encoder state for `batch` seats."""
        ...

    def init_decode_state(self, batch: int) -> State:
        """Fresh (zero) decoder state for `batch` seats."""
        ...

    def encode_step(self, state: State, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next whole frames of each seat; state is updated in place where `exec_mask`.

        Rows outside `exec_mask` give codes without meaning.
        """
        ...

    def decode_step(self, state: State, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The inverse of `encode_step`, with the same rules."""
        ...
