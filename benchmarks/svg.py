"""Line and bar charts as SVG files that read on light and on dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

WIDTH, HEIGHT = 700, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 16, 46
STYLE = """
  svg { --text: #475569; --grid: #e2e8f0; --axis: #94a3b8;
        --c0: #2563eb; --c1: #b5540b; --c2: #64748b; --c3: #0f766e; }
  @media (prefers-color-scheme: dark) {
    svg { --text: #cbd5e1; --grid: #334155; --axis: #64748b;
          --c0: #60a5fa; --c1: #fb923c; --c2: #94a3b8; --c3: #2dd4bf; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--text); }
  .grid { stroke: var(--grid); } .axis { stroke: var(--axis); }
  .line { fill: none; stroke: var(--colour); stroke-width: 2; }
  .mark { fill: var(--colour); }
  .c0 { --colour: var(--c0); } .c1 { --colour: var(--c1); } .c2 { --colour: var(--c2); } .c3 { --colour: var(--c3); }
"""
DASHES = ("none", "6 4", "2 3", "8 3 2 3")

Range = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve of a chart: its name, its points, and those of them that carry a marker."""

    name: str
    points: Sequence[tuple[float, float]]
    marked: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """Title, range and ticks of one axis; ``unit`` follows each tick label."""

    title: str
    range: Range
    ticks: Sequence[float]
    unit: str = ""


def _scale(axis: Axis, low: float, high: float, value: float) -> float:
    start, end = axis.range
    return low + (value - start) / (end - start) * (high - low)


def _x(axis: Axis, value: float) -> float:
    return round(_scale(axis, LEFT, WIDTH - RIGHT, value), 1)


def _y(axis: Axis, value: float) -> float:
    return round(_scale(axis, HEIGHT - BOTTOM, TOP, value), 1)


def _frame(x: Axis, y: Axis) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in y.ticks:
        at = _y(y, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{tick:g}{y.unit}</text>')
    for tick in x.ticks:
        at = _x(x, tick)
        parts.append(f'<line class="axis" x1="{at}" x2="{at}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 18}" text-anchor="middle">{tick:g}{x.unit}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x.title)}</text>')
    parts.append(f'<text x="{right + 8}" y="{TOP + 4}">{escape(y.title)}</text>')
    return parts


def _document(title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _spread(heights: list[float], gap: float = 16) -> list[float]:
    """Moves label heights apart so that neighbours are at least ``gap`` pixels from each other."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + gap)
    over = max(0.0, placed[order[-1]] - (HEIGHT - BOTTOM))
    return [height - over for height in placed]


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """A chart of at most four curves, each named at its right end."""
    parts = _frame(x, y)
    ends = _spread([max(_y(y, line.points[-1][1]), TOP + 24.0) for line in lines])
    for i, (line, end) in enumerate(zip(lines, ends)):
        points = " ".join(f"{_x(x, a)},{_y(y, b)}" for a, b in line.points)
        parts.append(f'<polyline class="line c{i}" stroke-dasharray="{DASHES[i]}" points="{points}"/>')
        parts += [f'<circle class="mark c{i}" r="4" cx="{_x(x, a)}" cy="{_y(y, b)}"/>' for a, b in line.marked]
        at = WIDTH - RIGHT + 8
        parts.append(f'<text class="mark c{i}" x="{at}" y="{end + 4}">{escape(line.name)}</text>')
    return _document(title, parts)


def bar_chart(title: str, x: Axis, y: Axis, heights: Sequence[float], highlighted: Sequence[int] = ()) -> str:
    """A bar at each of 1, 2, ...; the highlighted ones (counted from 0) have the second colour."""
    parts = _frame(x, y)
    width = (WIDTH - RIGHT - LEFT) / (x.range[1] - x.range[0]) * 0.8
    for i, height in enumerate(heights):
        top, kind = _y(y, height), "c1" if i in highlighted else "c0"
        left = round(_x(x, i + 1) - width / 2, 1)
        size = round(HEIGHT - BOTTOM - top, 1)
        parts.append(f'<rect class="mark {kind}" x="{left}" y="{top}" width="{width:.1f}" height="{size}"/>')
    return _document(title, parts)


def write(path: Path, chart: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(chart, encoding="utf-8")
