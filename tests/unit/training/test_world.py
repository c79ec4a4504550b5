"""A world of one, and what torchrun's environment makes."""

import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn

from paluku.training.world import (
    World,
    current_world,
    distribute,
    joined,
    mean_over_world,
    sum_over_world,
)

ALONE = World(0, 1, torch.device("cpu"))


def test_one_process_is_a_world_of_one_that_wraps_nothing() -> None:
    world = current_world()
    assert (world.rank, world.size, world.is_main) == (0, 1, True)
    module = nn.Linear(1, 1)
    assert distribute(module, ALONE) is module


def test_alone_the_mean_and_the_sum_are_the_value() -> None:
    losses = {"a": torch.tensor(1.5, requires_grad=True), "b": torch.tensor(2)}
    assert mean_over_world(losses, ALONE) == {"a": 1.5, "b": 2.0}
    counts = torch.tensor([1, 2])
    total = sum_over_world(counts, ALONE)
    assert total.tolist() == [1, 2]
    total += 1
    assert counts.tolist() == [1, 2]


def test_without_torchrun_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as world:
        assert world.size == 1
        assert not dist.is_initialized()


def test_torchrun_s_environment_is_joined_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    names = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with joined() as world:
        assert dist.is_initialized()
        assert (world.rank, world.size) == (0, 1)
    assert not dist.is_initialized()
