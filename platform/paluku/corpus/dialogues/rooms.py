"""What a room does to a voice: impulse responses by the image-source method, through pyroomacoustics.

Allen & Berkley 1979, "Image method for efficiently simulating small-room acoustics" (JASA 65:943);
Scheibler et al. 2018, "Pyroomacoustics" (ICASSP).
"""

import numpy as np
import pyroomacoustics
from pydantic import Field
from scipy.signal import fftconvolve

from paluku.config import Config

WALL_DISTANCE_M = 0.4
HEAD_M = (1.1, 1.7)  # sitting and standing
# Reflections beyond this order are 30 dB down in rooms as dry as those people talk in.
MAX_ORDER = 17


class Room(Config):
    """A box of a room, a mouth and a microphone in it."""

    size_m: tuple[float, float, float]
    mouth_m: tuple[float, float, float]
    microphone_m: tuple[float, float, float]
    rt60_s: float = Field(gt=0)  # until the sound has fallen by 60 dB


def draw_room(rt60_s: float, distance_m: float, random: np.random.Generator) -> Room:
    """A room from a small bedroom to a small hall; the microphone at about `distance_m` from the mouth.

    A room that is too large for its reverberation to be so short is made smaller.
    """
    size = random.uniform((2.5, 2.5, 2.4), (8.0, 6.0, 3.6))
    while _shortest_rt60_s(size) >= rt60_s:
        size = np.maximum(size * 0.9, (1.5, 1.5, 2.2))
    low, high = np.full(3, WALL_DISTANCE_M), size - WALL_DISTANCE_M
    mouth = np.clip(random.uniform(low, high), low, high)
    mouth[2] = random.uniform(*HEAD_M)
    direction = random.standard_normal(3) * (1, 1, 0.2)
    microphone = np.clip(mouth + distance_m * direction / np.linalg.norm(direction), low, high)
    if np.linalg.norm(microphone - mouth) < 0.1:
        microphone[0] += 0.3 if microphone[0] < size[0] / 2 else -0.3
    return Room(
        size_m=_rounded(size),
        mouth_m=_rounded(mouth),
        microphone_m=_rounded(microphone),
        rt60_s=round(rt60_s, 3),
    )


def impulse_response(room: Room, rate_hz: int) -> np.ndarray:
    """Float32 `[S]`; its first sample is the direct sound, of height 1, so that nothing is delayed."""
    absorption, order = pyroomacoustics.inverse_sabine(room.rt60_s, list(room.size_m))
    box = pyroomacoustics.ShoeBox(
        list(room.size_m),
        fs=rate_hz,
        materials=pyroomacoustics.Material(absorption),
        max_order=min(order, MAX_ORDER),
    )
    box.add_source(list(room.mouth_m))
    box.add_microphone(list(room.microphone_m))
    box.compute_rir()
    assert box.rir is not None, "the room has a source and a microphone"
    response = np.asarray(box.rir[0][0])
    # The direct sound comes first, but a reflection of several paths may be higher.
    direct = int(np.flatnonzero(np.abs(response) >= 0.5 * np.abs(response).max())[0])
    return (response[direct:] / np.abs(response[direct])).astype(np.float32)


def reverberant(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The wave `[S]` as the response lets it sound; its tail beyond `S` is cut."""
    return fftconvolve(wave, response)[: len(wave)].astype(np.float32)


def _shortest_rt60_s(size: np.ndarray) -> float:
    """With walls that swallow everything (Sabine), and a little above: the solver refuses the border."""
    length, width, height = size
    surface = 2 * (length * width + length * height + width * height)
    return float(24 * np.log(10) / 343.0 * length * width * height / surface) * 1.05


def _rounded(place: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 3) for value in place)
    return x, y, z
