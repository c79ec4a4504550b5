"""Which of how many workers this process is. One process alone, torchrun and Ray Train look the same."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class World(NamedTuple):
    """This worker's place. Ray Train and torchrun set the process group up before a loop runs."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes and speaks."""
        return self.rank == 0


def current_world() -> World:
    """The process group's world, or a world of one."""
    device = (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size(), device)
    return World(0, 1, device)


@contextmanager
def joined() -> Iterator[World]:
    """For `python -m` and torchrun: join the process group that the environment names, if it names one.

    torchrun sets WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Under Ray Train the group
    stands already and a loop calls `current_world` alone.
    """
    if "WORLD_SIZE" not in os.environ:
        yield current_world()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield current_world()
    finally:
        dist.destroy_process_group()


def distribute(module: nn.Module, world: World) -> nn.Module:
    """On the world's device, and in DDP when there is more than one worker."""
    module = module.to(world.device)
    if world.size == 1:
        return module
    return DistributedDataParallel(
        module, device_ids=[world.device.index] if world.device.type == "cuda" else None
    )


@torch.no_grad()
def from_main_(module: nn.Module, world: World) -> None:
    """Give every worker rank 0's weights and buffers, in place."""
    if world.size > 1:
        for value in module.state_dict().values():
            dist.broadcast(value, src=0)


def mean_over_world(values: Mapping[str, torch.Tensor], world: World) -> dict[str, float]:
    """Each scalar averaged over the workers (one all-reduce)."""
    stacked = torch.stack([v.detach().float() for v in values.values()]).to(world.device)
    if world.size > 1:
        dist.all_reduce(stacked)
        stacked /= world.size
    return dict(zip(values, stacked.tolist(), strict=True))


def sum_over_world(value: torch.Tensor, world: World) -> torch.Tensor:
    """The sum of every worker's tensor of this shape; a new tensor."""
    total = value.detach().clone()
    if world.size > 1:
        dist.all_reduce(total)
    return total
