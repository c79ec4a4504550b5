"""Choosing tokens: temperature and top-k by seat, with chance that is a function and not a generator.

The number a token is drawn with is a hash of (the seat's seed, its step, the stream). A seat's sound
therefore depends on its own seed and inputs alone: not on the other seats, on the batch it is stepped
in, or on what was drawn before.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# splitmix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17),
# in int64, whose product wraps around as uint64's does; the constants are written as signed numbers.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64
# So many high bits of a hash: below 1 by more than float32's rounding, so that a product with it is less.
UNIFORM_BITS = 23
# The threshold is found among so many of the likeliest, at a tenth of what sorting a vocabulary costs.
MOST_TOP_K = 128


def uniform(seed: Int[Tensor, "B"], step: Int[Tensor, "B"], streams: int) -> Float[Tensor, "B N"]:
    """A number in [0, 1) for each of `N` streams."""
    place = mix(mix(seed) + step)[:, None] + torch.arange(streams, device=seed.device)
    return _shift(mix(mix(place)), 64 - UNIFORM_BITS).float() * 2.0**-UNIFORM_BITS


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
    chance: Float[Tensor, "B"],
    temperature: Float[Tensor, "B"],
    top_k: Int[Tensor, "B"],
) -> Int[Tensor, "B"]:
    """One token a seat from `softmax(logits / temperature)`, of its `top_k` likeliest.

    The distribution's inverse at `chance`, in the order of the vocabulary; at a temperature of 0 the
    arg max. A `top_k` below 1 or above `MOST_TOP_K` keeps all; candidates equal to the last one kept
    stay in.
    """
    logits = logits.float()
    likeliest, best = logits.topk(min(MOST_TOP_K, logits.shape[1]), dim=1)
    keeps_all = (top_k < 1) | (top_k > likeliest.shape[1])
    last = likeliest.gather(1, torch.where(keeps_all, 1, top_k)[:, None] - 1)
    above = (logits - likeliest[:, :1]) / temperature.clamp(min=1e-4)[:, None]
    weights = torch.where((logits >= last) | keeps_all[:, None], above.exp(), 0.0)
    reached = weights.cumsum(dim=1)
    drawn = (reached <= chance[:, None] * reached[:, -1:]).sum(dim=1)
    return torch.where(temperature > 0, drawn, best[:, 0])


def among_words(logits: Float[Tensor, "B V"], top_k: Int[Tensor, "B"], silence: int) -> Float[Tensor, "B V"]:
    """The logits of the `top_k` likeliest words and of `silence`; minus infinity elsewhere.

    When to speak is drawn, whatever is kept of the words: of one word, always the likeliest one. A `top_k`
    as in `sample`.
    """
    is_silence = torch.arange(logits.shape[1], device=logits.device) == silence
    words = logits.masked_fill(is_silence, -torch.inf)
    likeliest = words.topk(min(MOST_TOP_K, words.shape[1] - 1), dim=1)[0]
    keeps_all = (top_k < 1) | (top_k > likeliest.shape[1])
    last = likeliest.gather(1, torch.where(keeps_all, 1, top_k)[:, None] - 1)
    kept = (words >= last) | keeps_all[:, None] | is_silence
    return logits.masked_fill(~kept, -torch.inf)
