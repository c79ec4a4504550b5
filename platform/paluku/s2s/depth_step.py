"""The depth transformer a code at a time: `K` steps within a frame, over a cache that each frame writes anew.

Every seat is at the same step, so slots are numbers and not tensors: a step writes slot `k` and sees the
slots up to it. Nothing of a frame reaches the next one; the cache lives in the seats' state only so that
a tick allocates none.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from paluku.nn.attention import KeyValues
from paluku.nn.rope import Rotation, rotate
from paluku.nn.transformer import Block
from paluku.s2s.model import DepthModel


def init_depth_cache(depth: DepthModel, batch: int, passes: int) -> tuple[KeyValues, ...]:
    """Each layer's keys and values, `[B, P, H, K, E]`, for `P` passes a seat."""
    slots = len(depth.heads)
    caches = []
    for block in _blocks(depth):
        shape = batch, passes, block.attention.heads, slots, block.attention.channels
        new_zeros = block.attention.project_in.weight.new_zeros
        caches.append(KeyValues(new_zeros(shape), new_zeros(shape)))
    return tuple(caches)


def depth_rotations(depth: DepthModel) -> list[Rotation | None]:
    """Of each step's position; none where the transformer has no rotary positions."""
    rotary, steps = depth.transformer.rotary, len(depth.heads)
    if rotary is None:
        return [None] * steps
    cos, sin = rotary(torch.arange(steps, device=depth.from_temporal.weight.device)[None])
    return [Rotation(cos[:, k : k + 1], sin[:, k : k + 1]) for k in range(steps)]


def depth_step(
    depth: DepthModel,
    cache: tuple[KeyValues, ...],
    x: Float[Tensor, "N E"],
    k: int,
    rotation: Rotation | None,
) -> Float[Tensor, "N V"]:
    """Logits of code `k`; `N` is every pass of every seat. The cache's slot `k` is written."""
    for block, (keys, values) in zip(_blocks(depth), cache, strict=True):
        x = x + _attended(block, KeyValues(keys.flatten(0, 1), values.flatten(0, 1)), x, k, rotation)
        x = x + block.feedforward(block.feedforward_norm(x), k)
    return depth.heads[k](depth.transformer.norm(x))


def _attended(
    block: Block, cache: KeyValues, x: Float[Tensor, "N E"], k: int, rotation: Rotation | None
) -> Float[Tensor, "N E"]:
    attention = block.attention
    own, values = (
        attention.project_in(block.attention_norm(x), k)
        .unflatten(-1, (3 * attention.heads, 1, attention.channels))
        .split((2 * attention.heads, attention.heads), dim=1)
    )
    queries, keys = rotate(own, rotation).chunk(2, dim=1)  # turned together: half the operations
    cache.keys[:, :, k : k + 1] = keys
    cache.values[:, :, k : k + 1] = values
    seen = cache.keys[:, :, : k + 1], cache.values[:, :, : k + 1]
    attended = F.scaled_dot_product_attention(queries, *seen)
    return attention.project_out(attended.flatten(1), k)


def _blocks(depth: DepthModel) -> list[Block]:
    return [block for block in depth.transformer.blocks if isinstance(block, Block)]
