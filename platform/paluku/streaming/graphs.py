"""A step of fixed shapes made cheap to launch: CUDA graphs on a GPU, compiled loops on a CPU.

A frame of the S2S model is some thousand small operations. On a GPU each costs a launch, several times
what it computes: recorded once as a CUDA graph, all of them are one launch. On a CPU each costs a walk
through torch's dispatcher and a pass over memory: `torch.compile` makes one loop of neighbours, for half
a minute to two of compiling when the stage is made (its cache on disk makes the next start quicker) and
with a C++ compiler beside torch.
"""

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paluku.log import logger

log = logger(__name__)

# Before a capture the libraries must have chosen their algorithms (torch's CUDA graph notes).
WARM_UP_STEPS = 3


def accelerated(
    model: nn.Module, step: Callable[..., Tensor], *fixed: Any, compiled: bool
) -> Callable[[], Tensor]:
    """`step(model, *fixed)` without arguments, as quick as the model's device allows.

    `fixed` are trees of tensors that live as long as the result and are changed only in place; the last
    is the mask of seats that are stepped, all off now. On a GPU the result's tensor is the same each
    time. `compiled` matters on a CPU alone; without a C++ compiler there the step is taken as it is.
    """
    mask = fixed[-1]
    assert not mask.any(), "warming up would step the seats that are on"

    def plain() -> Tensor:
        return step(model, *fixed)

    if mask.device.type == "cuda":
        return captured(plain)
    if not compiled:
        return plain
    return _compiled(step, model, *fixed) or plain


def captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """One launch for all of a step's. Nothing in it may wait for the GPU or depend on its numbers."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(aside):
        for _ in range(WARM_UP_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = step()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def _compiled(step: Callable[..., Tensor], *fixed: Any) -> Callable[[], Tensor] | None:
    """The step compiled and warm; None where there is no C++ compiler."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        log.warning("no C++ compiler was found; Converse runs without torch.compile, at half the seats")
        return None
    quick = torch.compile(step, dynamic=False, fullgraph=True)

    def compiled() -> Tensor:
        return quick(*fixed)

    with torch.no_grad():
        compiled()
    return compiled
