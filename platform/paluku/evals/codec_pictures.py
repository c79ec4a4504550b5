"""Drawings of a codec report, as SVG in the page's own colours: quality against bits, and codebook use."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from paluku.corpus.report.pictures import ticks

WIDTH, HEIGHT = 420, 220
LEFT, BOTTOM, TOP, RIGHT = 34, 26, 10, 12
BARS_WIDTH, BARS_HEIGHT, BARS_TOP = 420, 90, 8

# What every codebook is asked for: entries that are used at all, and perplexity over the codebook's size.
ASKED_USE, ASKED_PERPLEXITY = 0.9, 0.5


class Point(NamedTuple):
    """One row of a table, drawn."""

    kbps: float
    value: float


class Axis(NamedTuple):
    """What a measure is called and between what it lies."""

    title: str
    low: float
    high: float


def curves_svg(axis: Axis, curves: Mapping[str, Sequence[Point]], own: str) -> str:
    """A measure against kbps, a line a codec; `own` is the one that is judged, drawn in the first colour.

    Each line is named at its last point, so that colour is not needed to tell them apart.
    """
    most = max(point.kbps for points in curves.values() for point in points) * 1.1
    lines = "".join(_curve(axis, most, name, points, is_own=name == own) for name, points in curves.items())
    kbps = "".join(
        f'<text x="{_x(at, most):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{at:g}</text>'
        for at in ticks(0, most)
    )
    values = "".join(_level(at, _y(axis, at)) for at in ticks(axis.low, axis.high))
    said = "; ".join(
        f"{name}: " + ", ".join(f"{p.value:.2f} at {p.kbps:g} kbps" for p in points)
        for name, points in curves.items()
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{axis.title} against kbps. {said}")}">{values}{kbps}{lines}</svg>'
    )


def codebooks_svg(use: Sequence[float], perplexity: Sequence[float], size: int) -> str:
    """A pair of bars a codebook, of its height: share of entries used, perplexity over size.

    The dashed lines are what is asked of each.
    """
    step, height = BARS_WIDTH / len(use), BARS_HEIGHT - BARS_TOP
    bars = ""
    for number, (used, spread) in enumerate(zip(use, perplexity, strict=True)):
        for place, (kind, share) in enumerate((("use", used), ("spread", spread / size))):
            tall = height * min(share, 1.0)
            bars += (
                f'<rect class="{kind}" x="{step * (number + 0.08 + 0.42 * place):.1f}" '
                f'y="{BARS_HEIGHT - tall:.1f}" width="{step * 0.4:.1f}" height="{tall:.1f}"/>'
            )
    asked = "".join(
        f'<line class="median" x1="0" x2="{BARS_WIDTH}" y1="{BARS_HEIGHT - height * share:.1f}" '
        f'y2="{BARS_HEIGHT - height * share:.1f}"/>'
        for share in (ASKED_USE, ASKED_PERPLEXITY)
    )
    said = ", ".join(
        f"{number}: {used:.0%} used, perplexity {spread:.0f}"
        for number, (used, spread) in enumerate(zip(use, perplexity, strict=True))
    )
    return (
        f'<svg class="chart" viewBox="0 0 {BARS_WIDTH} {BARS_HEIGHT}" role="img" '
        f'aria-label="{escape(f"codebooks of {size} entries: {said}")}">{bars}{asked}</svg>'
    )


def _level(value: float, at: float) -> str:
    return (
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _curve(axis: Axis, most: float, name: str, points: Sequence[Point], *, is_own: bool) -> str:
    kind = "own" if is_own else "rival"
    places = [(_x(point.kbps, most), _y(axis, point.value)) for point in sorted(points)]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places)
    last_x, last_y = places[-1]
    anchor = "end" if last_x > WIDTH * 0.75 else "start"
    at_x = last_x - 6 if anchor == "end" else last_x + 6
    label = f'<text x="{at_x:.1f}" y="{last_y - 6:.1f}" text-anchor="{anchor}">{escape(name)}</text>'
    return f'<g class="{kind}"><polyline points="{joined}"/>{dots}{label}</g>'


def _x(kbps: float, most: float) -> float:
    return LEFT + kbps / most * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    share = (min(max(value, axis.low), axis.high) - axis.low) / (axis.high - axis.low)
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
