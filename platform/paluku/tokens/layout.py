"""The delay layout: codebook `k` of frame `t` stands at position `t + delays[k]`.

A frame's acoustic codebooks are written some positions after its first (semantic) one, so that the
model decides what to say before how it sounds (MusicGen, Copet et al. 2023, section 2.2; Moshi,
Défossez et al. 2024, section 3.4.3). Positions that stand for no frame hold the token `pad`, which is
also the model's "nothing yet" input: one past the last code.
"""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from paluku.shapes import Codes


def acoustic_delays(num_codebooks: int, acoustic_delay: int) -> tuple[int, ...]:
    """0 for the first codebook, `acoustic_delay` for the others."""
    return (0, *[acoustic_delay] * (num_codebooks - 1))


def delay(codes: Codes, delays: Sequence[int], pad: int) -> Int[Tensor, "B K P"]:
    """`[B, K, T]` frames to `[B, K, T + max(delays)]` positions.

    The first `T` positions are what a stream has seen after `T` frames.
    """
    B, K, T = codes.shape
    assert len(delays) == K, f"{K} codebooks, {len(delays)} delays"
    positions = codes.new_full((B, K, T + max(delays)), pad)
    for k, d in enumerate(delays):
        positions[:, k, d : d + T] = codes[:, k]
    return positions


def undelay(positions: Int[Tensor, "B K P"], delays: Sequence[int]) -> Codes:
    """The inverse of `delay`: the `P - max(delays)` frames that are complete.

    Raises:
        ValueError: when there are fewer positions than the longest delay.
    """
    B, K, P = positions.shape
    assert len(delays) == K, f"{K} codebooks, {len(delays)} delays"
    length = P - max(delays)
    if length < 0:
        raise ValueError(f"{P} positions hold no frame at a delay of {max(delays)}")
    codes = positions.new_empty(B, K, length)
    for k, d in enumerate(delays):
        codes[:, k] = positions[:, k, d : d + length]
    return codes
