"""Which of how many workers this process is. One process alone, torchrun and Ray Train look the same."""

from collections.abc import Mapping
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


def distribute(module: nn.Module, world: World) -> nn.Module:
    """On the world's device, and in DDP when there is more than one worker."""
    module = module.to(world.device)
    if world.size == 1:
        return module
    return DistributedDataParallel(
        module, device_ids=[world.device.index] if world.device.type == "cuda" else None
    )


def mean_over_world(values: Mapping[str, torch.Tensor], world: World) -> dict[str, float]:
    """Each scalar averaged over the workers (one all-reduce)."""
    stacked = torch.stack([v.detach().float() for v in values.values()]).to(world.device)
    if world.size > 1:
        dist.all_reduce(stacked)
        stacked /= world.size
    return dict(zip(values, stacked.tolist(), strict=True))
