"""One model on several workers: each has all of it (DDP), or a part (FSDP2).

FSDP2 is `torch.distributed.fsdp.fully_shard` (Zhao et al. 2023, "PyTorch FSDP"): weights, gradients and the
optimiser's moments are shards; a block's weights are gathered when it is its turn. What is written to disk
is whole either way.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from paluku.errors import ConfigError
from paluku.nn.transformer import Block
from paluku.training.world import World, distribute

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def spread(model: nn.Module, world: World, parallel: Literal["ddp", "fsdp"], bfloat16: bool) -> nn.Module:
    """What to call in training: the model itself when there is one worker, or when it was sharded in place.

    Raises:
        ConfigError: when `fsdp` is asked for and there is no process group.
    """
    if parallel == "ddp":
        return distribute(model, world)
    if not (dist.is_available() and dist.is_initialized()):
        raise ConfigError("parallel=fsdp shards over workers and this is none; use torchrun, or parallel=ddp")
    model = model.to(world.device)
    halves = bfloat16 and world.device.type == "cuda"
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if halves else MixedPrecisionPolicy()
    shards = [fully_shard(block, mp_policy=policy) for block in model.modules() if isinstance(block, Block)]
    for part in (*shards, fully_shard(model, mp_policy=policy)):
        # gloo can sum, not average; the division comes after. Elsewhere it costs nothing to speak of.
        part.set_force_sum_reduction_for_comms(True)
    return model


def autocast(world: World, bfloat16: bool) -> AbstractContextManager[object]:
    """Matrix products in bfloat16, where the device multiplies it."""
    kind = world.device.type
    return torch.autocast(kind, torch.bfloat16, enabled=bfloat16 and (kind == "cuda" or _is_native()))


def _is_native() -> bool:
    """Whether this CPU multiplies bfloat16; others turn it into float32 and back, and are slower with it."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def passing(model: nn.Module, is_last: bool) -> Iterator[None]:
    """Around one of a step's passes: gradients go to the other workers with the last one."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(is_last)
    if isinstance(model, DistributedDataParallel) and not is_last:
        with model.no_sync():
            yield
    else:
        yield


def let_go_(model: nn.Module) -> None:
    """Drop what a forward without a backward gathered; the next one would take it as it is.

    FSDP2 keeps the weights outside the blocks for the backward pass that follows in training.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def whole(value: Tensor) -> Tensor:
    """A tensor of which this worker may hold a part. Every worker calls this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def gathered(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors on the CPU. Every worker calls this."""
    return {name: whole(value).cpu() for name, value in weights.items()}


def scattered(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`gathered`'s inverse: this worker's parts, laid out as in `like`."""
    return {name: _part(value, like[name]) if name in like else value for name, value in weights.items()}


def _part(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    there = value.to(like.device)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)


def optimiser_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Moments, whole, by the names of their weights: a run may go on under another `parallel`.

    Every worker calls this.
    """
    return dict(get_optimizer_state_dict(model, optimiser, options=WHOLE))


def restore_optimiser_(model: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`optimiser_state`'s inverse, in place."""
    set_optimizer_state_dict(model, optimiser, state, options=WHOLE)
