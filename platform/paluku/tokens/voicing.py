"""More users than were recorded: the same dialogues, the user's throat shorter or longer.

Pitch and formants are moved together by one factor and the tempo is kept: sound played faster, then stretched
in time (WSOLA, Verhelst & Roelands 1993, as FFmpeg's `atempo` does it). It is vocal tract length perturbation
(Jaitly & Hinton 2013) in the wave. A model that hears each dialogue in several voices learns words; one that
hears it in one learns the voice by heart.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import BlockingIOError as NoFrameYet
from av.error import EOFError as NoFrame
from av.filter import Graph
from jaxtyping import Float

from paluku.audio import read, to_flac
from paluku.corpus.splits import fraction
from paluku.tokens.extract import AGENT, USER

# People's vocal tracts differ by a quarter; beyond it a voice is a cartoon's.
MOST = 1.22
EARLY_S = 0.025  # by so much sound leaves `atempo` before its time, on the average
LEAST_SHARE = 0.25  # of the way there: a copy that sounds the same is none


def other_voice(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Copy `number` of a row of the dialogues schema: the user's channel in a voice drawn by the row's id.

    Raises:
        AudioError: when the audio cannot be decoded.
    """
    wave, rate_hz = read(row["audio"], row["id"])
    user = shifted(wave[:, USER], rate_hz, shift_of(row["id"], number))
    both = np.stack((wave[:, AGENT], user), axis=1)
    return {**row, "id": f"{row['id']}~{number}", "audio": to_flac(both, rate_hz)}


def shift_of(row_id: str, number: int) -> float:
    """By how much frequencies are multiplied: up or down, drawn evenly in their logarithm."""
    drawn = 2 * fraction(f"{row_id}~{number}", 0) - 1
    return MOST ** math.copysign(LEAST_SHARE + (1 - LEAST_SHARE) * abs(drawn), drawn)


def shifted(wave: Float[np.ndarray, "S"], rate_hz: int, factor: float) -> Float[np.ndarray, "S"]:
    """The wave with all its frequencies `factor` times as high; what happens when stays within 30 ms."""
    graph = Graph()
    source = graph.add_abuffer(
        format="flt", sample_rate=rate_hz, layout="mono", time_base=Fraction(1, rate_hz)
    )
    steps = [
        graph.add("asetrate", str(round(rate_hz * factor))),
        graph.add("aresample", str(rate_hz)),
        graph.add("atempo", f"{1 / factor:.6f}"),
        graph.add("aformat", f"sample_fmts=flt:sample_rates={rate_hz}:channel_layouts=mono"),
        graph.add("abuffersink"),
    ]
    for before, after in zip([source, *steps], steps, strict=False):
        before.link_to(after)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(wave[None], np.float32), format="flt", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    source.push(frame)
    source.push(None)
    late = np.zeros(round(EARLY_S * rate_hz), np.float32)
    moved = np.concatenate([late, *_pulled(steps[-1])])[: len(wave)]
    return np.pad(moved, (0, len(wave) - len(moved)))


def _pulled(sink: Any) -> list[np.ndarray]:
    frames = []
    while True:
        try:
            frames.append(sink.pull().to_ndarray()[0])
        except (NoFrame, NoFrameYet):
            return frames
