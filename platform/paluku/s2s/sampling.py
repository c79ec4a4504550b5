"""Choosing tokens: temperature and top-k by seat, with noise that is a function and not a generator.

The noise of a candidate is a hash of (the seat's seed, its step, the stream, the candidate). A seat's
sound therefore depends on its own seed and inputs alone: not on the other seats, on the batch it is
stepped in, or on what was drawn before.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17),
# in int64, whose product wraps around as uint64's does; the constants are written as signed numbers.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64
# So many high bits of a hash, and a half: exact in float32, and never 0 or 1.
UNIFORM_BITS = 23


def gumbel(
    seed: Int[Tensor, "B"], step: Int[Tensor, "B"], streams: int, candidates: int
) -> Float[Tensor, "B N V"]:
    """Standard Gumbel noise for `V` candidates in each of `N` streams."""
    place = mix(mix(seed) + step)[:, None] + torch.arange(streams, device=seed.device)
    hashed = mix(mix(place)[..., None] + torch.arange(candidates, device=seed.device))
    high = _shift(hashed, 64 - UNIFORM_BITS)
    uniform = (high.float() + 0.5) * 2.0**-UNIFORM_BITS
    return -(-uniform.log()).log()


def mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """splitmix64's next output from the state `x`: a bijection of 64 bits, every bit of it well mixed."""
    x = x + GOLDEN
    x = (x ^ _shift(x, 30)) * MIX_1
    x = (x ^ _shift(x, 27)) * MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right: int64's own copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def sample(
    logits: Float[Tensor, "B V"],
    noise: Float[Tensor, "B V"],
    temperature: Float[Tensor, "B"],
    top_k: Int[Tensor, "B"],
) -> Int[Tensor, "B"]:
    """One token a seat from `softmax(logits / temperature)`, of its `top_k` likeliest.

    Gumbel-max (Maddison et al. 2014, "A* sampling"), scaled by the temperature: at 0 it is the
    arg max. `top_k` below 1 or above `V` keeps all; candidates equal to the last one kept stay in.
    """
    V = logits.shape[1]
    last = torch.where((top_k < 1) | (top_k > V), V, top_k) - 1
    threshold = logits.sort(dim=1, descending=True).values.gather(1, last[:, None])
    kept = logits.masked_fill(logits < threshold, -torch.inf)
    return (kept + temperature[:, None] * noise).argmax(dim=1)
