"""A codec without weights, for tests: delta modulation of a frame's segments.

A frame is cut into `K` equal segments. Each segment's mean, in `V` levels, is coded as its difference
(modulo `V`) from the same segment one frame before. So code 0 is "as before", a fresh state is silence,
`encode(decode(codes)) == codes` for any codes, and both directions carry real state from frame to frame.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from paluku.nn.state import State, update_
from paluku.shapes import Codes, Mask, MonoWave
from paluku.units import frame_samples


class FakeCodec:
    """Implements `paluku.codec.port.Codec`; its state is the last levels, `[B, K]`."""

    sample_rate_hz = 16_000
    frame_rate_hz = 25.0
    encode_reach_frames = 1
    decode_reach_frames = 1_000_000  # a sum of all that came
    delay_samples = 0
    encode_lookahead_frames = 0
    decode_lookahead_frames = 0

    def __init__(self, num_codebooks: int = 8, codebook_size: int = 256) -> None:
        self.num_codebooks = num_codebooks
        self.codebook_size = codebook_size
        self.frame_samples = frame_samples(self.sample_rate_hz)
        assert self.frame_samples % num_codebooks == 0, f"{num_codebooks} segments do not divide a frame"

    def encode(self, wave: MonoWave) -> Codes:
        """`[B, 1, S]` to `[B, K, T]`."""
        levels = self._levels(wave)
        return (levels - F.pad(levels, (1, 0))[..., :-1]) % self.codebook_size

    def decode(self, codes: Codes) -> MonoWave:
        """`[B, k, T]` to `[B, 1, S]`; segments of missing codebooks are silent."""
        missing = self.num_codebooks - codes.shape[1]
        return self._wave(F.pad(codes, (0, 0, 0, missing)).cumsum(dim=-1))

    def init_encode_state(self, batch: int) -> State:
        """Silence before the first frame."""
        return torch.zeros(batch, self.num_codebooks, dtype=torch.int64)

    def init_decode_state(self, batch: int) -> State:
        """Silence before the first frame."""
        return self.init_encode_state(batch)

    def encode_step(self, state: State, wave: MonoWave, exec_mask: Mask) -> Codes:
        """The next frames of each seat."""
        levels = self._levels(wave)
        codes = (levels - torch.cat((state[..., None], levels[..., :-1]), dim=-1)) % self.codebook_size
        update_(state, levels[..., -1], exec_mask)
        return codes

    def decode_step(self, state: State, codes: Codes, exec_mask: Mask) -> MonoWave:
        """The next frames of each seat."""
        missing = self.num_codebooks - codes.shape[1]
        levels = state[..., None] + F.pad(codes, (0, 0, 0, missing)).cumsum(dim=-1)
        update_(state, levels[..., -1] % self.codebook_size, exec_mask)
        return self._wave(levels)

    def _levels(self, wave: Tensor) -> Int[Tensor, "B K T"]:
        half = self.codebook_size // 2
        segments = wave.unflatten(-1, (-1, self.num_codebooks, self.frame_samples // self.num_codebooks))
        levels = (segments.mean(dim=-1) * half).round().clamp(-half, half - 1).long()
        return levels.squeeze(1).transpose(1, 2)

    def _wave(self, levels: Int[Tensor, "B K T"]) -> MonoWave:
        half = self.codebook_size // 2
        signed = (levels + half) % self.codebook_size - half
        segment = self.frame_samples // self.num_codebooks
        samples = (signed / half).transpose(1, 2).repeat_interleave(segment, dim=-1)
        return samples.flatten(1)[:, None]
