"""What a codec costs as it is served: CPU seconds a second of sound, streaming, on one thread."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from paluku.codec.port import Codec
from paluku.shapes import MonoWave

WARM_UP_FRAMES, TIMED_FRAMES = 5, 60
# A codec that is far slower than real time is known well enough after fewer frames.
MOST_S = 10.0


@dataclass(frozen=True)
class Speed:
    """Real-time factors of one stream, which are shares of one core: `decode` by depth.

    `encode` makes all `K` codes of the codec as it was opened, whatever depth is sent.
    """

    encode: float
    decode: Mapping[int, float]


def real_time_factors(
    codec: Codec,
    speech: np.ndarray,
    depths: Sequence[int],
    seats: int = 1,
    frames: int = TIMED_FRAMES,
    clock: Callable[[], float] = time.process_time,
) -> Speed:
    """Frame by frame, the median over `frames` of them: of one stream, where `seats` go in step.

    `speech` is float32 `[S]` at the codec's rate; it is repeated where it is short. CPU time is taken and
    not wall time: what else runs on the machine does not count.
    """
    num_frames = WARM_UP_FRAMES + frames
    wave = _seated(speech, seats, num_frames * codec.frame_samples)
    everyone = torch.ones(seats, dtype=torch.bool)
    frame_s = 1 / codec.frame_rate_hz
    encode_state = codec.init_encode_state(seats)
    with one_thread(), torch.inference_mode():
        coded, took_s = _timed(
            wave.split(codec.frame_samples, dim=-1),
            lambda part: codec.encode_step(encode_state, part, everyone),
            clock,
        )
        decode = {}
        for depth in depths:
            state = codec.init_decode_state(seats)
            parts = [codes[:, :depth] for codes in coded]
            _, decode_s = _timed(parts, lambda part, s=state: codec.decode_step(s, part, everyone), clock)
            decode[depth] = decode_s / frame_s / seats
    return Speed(took_s / frame_s / seats, decode)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch have one thread, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(
    parts: Sequence[torch.Tensor],
    step: Callable[[torch.Tensor], torch.Tensor],
    clock: Callable[[], float],
) -> tuple[list[torch.Tensor], float]:
    """What the steps gave, and the median of what a step after the warm-up took, in seconds."""
    given: list[torch.Tensor] = []
    took_s: list[float] = []
    for part in parts:
        before_s = clock()
        given.append(step(part))
        took_s.append(clock() - before_s)
        if len(took_s) > 2 * WARM_UP_FRAMES and sum(took_s) > MOST_S:
            break
    return given, median(took_s[WARM_UP_FRAMES:])


def _seated(speech: np.ndarray, seats: int, samples: int) -> MonoWave:
    """`[seats, 1, samples]`: every seat hears the same speech from another place on."""
    starts = np.arange(seats)[:, None] * (len(speech) // seats)
    return torch.from_numpy(speech[(starts + np.arange(samples)) % len(speech)])[:, None]
