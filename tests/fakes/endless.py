"""`python -m tests.fakes.endless FRAMES`: one seat for so many frames, compiled; what became of it as JSON.

A process of its own, for its memory is to be seen, and because the tests' type checks cannot be compiled.
"""

import json
import resource
import sys
from collections import deque

import numpy as np
import torch

from paluku.nn.state import leaves
from paluku.s2s.model import DepthConfig, S2SConfig, S2SModel
from paluku.s2s.prefill import reach_frames
from paluku.streaming.ports import Batch, Conditions, History
from paluku.streaming.stages import ConverseStage

K, V, SETTLED, COMPARED = 2, 8, 500, 300
CONFIG = S2SConfig(
    num_codebooks=K,
    codebook_size=V,
    text_vocab=8,
    dim=16,
    layers=1,
    heads=2,
    window=16,
    speaker_dim=4,
    depth=DepthConfig(dim=16, layers=1, heads=1),
)
SEAT = np.zeros(1, np.int32)


def peak_kb() -> int:
    """Of this process's memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Live, compare, print."""
    frames = int(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = S2SModel(CONFIG).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(std=0.3)
    quick, plain, primed = (ConverseStage(model, 1, compiled=is_first) for is_first in (True, False, False))
    for stage in (quick, plain, primed):
        stage.open(0, Conditions(seed=5))
    said = np.random.default_rng(0).integers(0, V, (frames, 1, K)).astype(np.int16)
    kept: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=reach_frames(model))
    different = settled_kb = 0
    for frame, codes in enumerate(said):
        reply = quick.step(Batch(SEAT, codes)).payload
        if frame < COMPARED:
            different += int((plain.step(Batch(SEAT, codes)).payload != reply).any())
        if frame == SETTLED:
            settled_kb = peak_kb()
        kept.append((codes[0], reply[0]))
    grown_kb = peak_kb() - settled_kb
    user, replies = (np.array(rows, np.int16) for rows in zip(*kept, strict=True))
    for _ in primed.prime(0, History(frames - len(user), np.zeros((0, 640), np.int16), user, replies)):
        pass
    lived, fresh = quick._state.temporal, primed._state.temporal
    pairs = list(zip(leaves(lived.layers), leaves(fresh.layers), strict=True))
    print(
        json.dumps(
            {
                "position": int(lived.position),
                "grown_kb": grown_kb,
                "compiled_said_otherwise": different,
                "state_apart": max(float((one - other).abs().max()) for one, other in pairs),
                "state_size": max(float(one.abs().max()) for one, _ in pairs),
            }
        )
    )


if __name__ == "__main__":
    main()
