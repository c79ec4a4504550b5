"""Pictures of sound and of numbers that a page can hold: SVG in the page's own colours, PNG as bytes."""

import io
import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib import image

from paluku.corpus.report.histogram import Histogram

BARS = 40
CHART_WIDTH, CHART_HEIGHT, AXIS = 320, 150, 24
WAVE_WIDTH, WAVE_HEIGHT = 600, 80

WINDOW_S = 0.025
SPECTRUM_COLUMNS, SPECTRUM_ROWS = 600, 160
RANGE_DB = 80.0  # below the loudest point it is black


def histogram_svg(histogram: Histogram) -> str:
    """Bars, an axis and the median; its text for screen readers says the same.

    Raises:
        ValueError: when nothing was counted.
    """
    low, width, counts = histogram.bars(BARS)
    high, top = low + width * len(counts), CHART_HEIGHT - AXIS
    step = CHART_WIDTH / len(counts)
    heights = top * 0.92 * counts / counts.max()
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{top - h:.1f}" width="{max(step - 1, 0.5):.1f}" height="{h:.1f}"/>'
        for i, h in enumerate(heights.tolist())
        if h
    )
    median = histogram.quantile(0.5)
    at = (median - low) / (high - low) * CHART_WIDTH
    labels = "".join(_tick(value, (value - low) / (high - low) * CHART_WIDTH) for value in ticks(low, high))
    return (
        f'<svg class="chart" viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img" '
        f'aria-label="{escape(_in_words(histogram))}"><g class="bars">{bars}</g>'
        f'<line class="axis" x1="0" y1="{top}" x2="{CHART_WIDTH}" y2="{top}"/>'
        f'<line class="median" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{top}"/>{labels}</svg>'
    )


def waveform_svg(
    wave: np.ndarray, rate_hz: int, turns: Iterable[Mapping[str, Any]] = (), name: str = ""
) -> str:
    """Bounds of a wave `[S]` in 600 columns; turns (`start_s`, `end_s`, `kind`) are shaded."""
    lows, highs = envelope(wave, WAVE_WIDTH)
    middle, seconds = WAVE_HEIGHT / 2, len(wave) / rate_hz
    upper = [f"{x},{middle - y * middle:.1f}" for x, y in enumerate(highs.tolist())]
    lower = [f"{x},{middle - y * middle + 0.6:.1f}" for x, y in enumerate(lows.tolist())]
    points = " ".join(upper + lower[::-1])
    shades = "".join(_shade(turn, seconds) for turn in turns)
    label = escape(f"{name} waveform, {seconds:.1f} s".strip())
    return (
        f'<svg class="wave" viewBox="0 0 {WAVE_WIDTH} {WAVE_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{shades}<polygon points="{points}"/></svg>'
    )


def spectrogram_png(wave: np.ndarray, rate_hz: int) -> bytes:
    """Of a wave `[S]`: time to the right, 0 Hz to half the rate upwards, 80 dB from black to white."""
    levels_db = spectrum_db(wave, rate_hz)
    scaled = np.clip(1 + (levels_db - levels_db.max()) / RANGE_DB, 0, 1)
    buffer = io.BytesIO()
    image.imsave(buffer, matplotlib.colormaps["magma"](scaled, bytes=True), format="png")
    return buffer.getvalue()


def spectrum_db(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    """Levels `[160, at most 600]`, the highest frequency first."""
    size = max(2 * SPECTRUM_ROWS, round(WINDOW_S * rate_hz))
    padded = np.pad(wave, (0, max(0, size - len(wave))))
    last = len(padded) - size
    starts = np.linspace(0, last, min(SPECTRUM_COLUMNS, last // (size // 4) + 1)).astype(int)
    frames = np.stack([padded[start : start + size] for start in starts]) * np.hanning(size)
    power = np.square(np.abs(np.fft.rfft(frames)))
    edges = np.linspace(0, power.shape[1], SPECTRUM_ROWS + 1).astype(int)
    rows = np.add.reduceat(power, edges[:-1], axis=1) / np.diff(edges)
    return 10 * np.log10(rows.T[::-1] + 1e-10)


def envelope(wave: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest sample of `[S]` in each of `columns` equal stretches."""
    padded = wave if len(wave) >= columns else np.pad(wave, (0, columns - len(wave)))
    edges = np.linspace(0, len(padded), columns + 1).astype(int)[:-1]
    return np.minimum.reduceat(padded, edges), np.maximum.reduceat(padded, edges)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers in `[low, high]`, equally far apart.

    Raises:
        ValueError: when the interval is empty.
    """
    if not high > low:
        raise ValueError(f"no ticks between {low} and {high}")
    rough = (high - low) / (most - 1)
    unit = 10 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _tick(value: float, at: float) -> str:
    anchor = "start" if at < 12 else "end" if at > CHART_WIDTH - 12 else "middle"
    return f'<text x="{at:.1f}" y="{CHART_HEIGHT - 6}" text-anchor="{anchor}">{value:,g}</text>'


def _shade(turn: Mapping[str, Any], seconds: float) -> str:
    left = turn["start_s"] / seconds * WAVE_WIDTH
    width = min(WAVE_WIDTH - left, (turn["end_s"] - turn["start_s"]) / seconds * WAVE_WIDTH)
    kind = escape(turn["kind"])
    place = f'x="{left:.1f}" y="0" width="{max(0.0, width):.1f}" height="{WAVE_HEIGHT}"'
    return f'<rect class="said {kind}" {place}/>'


def _in_words(histogram: Histogram) -> str:
    p5, p50, p95 = (f"{histogram.quantile(share):,.4g}" for share in (0.05, 0.5, 0.95))
    scale = histogram.scale
    return (
        f"{scale.title}: median {p50} {scale.unit}, 5 to 95 % from {p5} to {p95}, {len(histogram):,} values"
    )
