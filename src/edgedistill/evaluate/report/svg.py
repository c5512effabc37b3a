"""A small writer of SVG charts: axes, grid, lines, points, bars, labels.

Colours are classes that the page's style sheet sets, so that a chart follows light and dark.
Coordinates given to the drawing methods are data values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 14, 46


@dataclass(frozen=True)
class Scale:
    """A range of data values, linear or logarithmic, with the values that get a tick."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def fraction(self, value: float) -> float:
        """Place of a value between both ends, 0 to 1 inside the range."""
        if self.logarithmic:
            low, high, at = math.log(self.low), math.log(self.high), math.log(value)
        else:
            low, high, at = self.low, self.high, value
        return (at - low) / (high - low)


def linear_scale(low: float, high: float, *, num_ticks: int = 5) -> Scale:
    """A linear scale over at least [low, high] with round ticks (steps of 1, 2 or 5)."""
    if high <= low:
        widening = abs(low) * 0.1 or 1.0
        low, high = low - widening, high + widening
    raw = (high - low) / num_ticks
    magnitude: float = 10.0 ** math.floor(math.log10(raw))
    step = next(magnitude * m for m in (1, 2, 5, 10) if magnitude * m >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Rounding turns 0.30000000000000004 into the 0.3 that the label says.
    ticks = tuple(round(step * i, 12) for i in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def log_scale(low: float, high: float) -> Scale:
    """A logarithmic scale over [low, high] (> 0) with ticks at 1, 2 and 5 times powers of ten."""
    low, high = low / 1.25, high * 1.25
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(marks) > 6:
        marks = [m for m in marks if math.isclose(math.log10(m) % 1, 0, abs_tol=1e-9)] or marks
    if len(marks) < 2:
        # Between two of them, the ticks of a linear scale serve.
        marks = [tick for tick in linear_scale(low, high).ticks if low <= tick <= high]
    return Scale(low, high, tuple(marks), logarithmic=True)


class Chart:
    """One chart under construction; `render` gives the markup.

    Args:
        x, y: the scales. x_title, y_title: what the axes show, with the unit.
        x_percent, y_percent: label ticks as percentages of a share.
    """

    def __init__(
        self,
        x: Scale,
        y: Scale,
        *,
        x_title: str,
        y_title: str,
        x_percent: bool = False,
        y_percent: bool = False,
    ) -> None:
        self._x, self._y = x, y
        self._parts: list[str] = []
        for value in y.ticks:
            at = self._at_y(value)
            self._parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
            )
            self._text(_LEFT - 8, at + 4, _tick(value, y_percent), "tick end")
        for value in x.ticks:
            at = self._at_x(value)
            foot = HEIGHT - _BOTTOM
            self._parts.append(
                f'<line class="axis" x1="{at}" x2="{at}" y1="{foot}" y2="{foot + 4}"/>'
            )
            self._text(at, foot + 17, _tick(value, x_percent), "tick middle")
        foot = HEIGHT - _BOTTOM
        self._parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{foot}" y2="{foot}"/>'
        )
        self._text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, x_title, "title middle")
        middle = (_TOP + HEIGHT - _BOTTOM) / 2
        self._parts.append(
            f'<text class="title middle" transform="translate(13 {middle:.1f}) rotate(-90)">'
            f"{escape(y_title)}</text>"
        )

    def _at_x(self, value: float) -> float:
        return round(_LEFT + self._x.fraction(value) * (WIDTH - _LEFT - _RIGHT), 1)

    def _at_y(self, value: float) -> float:
        return round(HEIGHT - _BOTTOM - self._y.fraction(value) * (HEIGHT - _TOP - _BOTTOM), 1)

    def _text(self, x: float, y: float, text: str, style: str) -> None:
        self._parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def line(
        self, x: Sequence[float], y: Sequence[float], style: str, *, steps: bool = False
    ) -> None:
        """A line through points; `steps` holds each y until the next x."""
        points = [(self._at_x(a), self._at_y(b)) for a, b in zip(x, y, strict=True)]
        path = [f"M{points[0][0]} {points[0][1]}"]
        for a, b in points[1:]:
            path.append(f"H{a}V{b}" if steps else f"L{a} {b}")
        self._parts.append(f'<path class="line {style}" d="{"".join(path)}"/>')

    def point(self, x: float, y: float, radius: float, style: str, tooltip: str) -> None:
        """A dot of `radius` pixels that tells `tooltip` when pointed at."""
        self._parts.append(
            f'<circle class="dot {style}" cx="{self._at_x(x)}" cy="{self._at_y(y)}" '
            f'r="{radius:.1f}"><title>{escape(tooltip)}</title></circle>'
        )

    def bar(self, x: tuple[float, float], height: float, style: str, tooltip: str) -> None:
        """A bar from the foot to `height` between two x values, with a gap of 2 pixels."""
        left, right = self._at_x(x[0]) + 1, self._at_x(x[1]) - 1
        top, foot = self._at_y(height), self._at_y(self._y.low)
        self._parts.append(
            f'<rect class="bar {style}" x="{left:.1f}" y="{top:.1f}" '
            f'width="{max(right - left, 0.5):.1f}" height="{max(foot - top, 0):.1f}">'
            f"<title>{escape(tooltip)}</title></rect>"
        )

    def row_bar(
        self, x: tuple[float, float], y: tuple[float, float], style: str, tooltip: str
    ) -> None:
        """A lying bar between two x values, in a row between two y values."""
        left, right = sorted((self._at_x(x[0]), self._at_x(x[1])))
        top, foot = sorted((self._at_y(y[0]), self._at_y(y[1])))
        self._parts.append(
            f'<rect class="bar {style}" x="{left:.1f}" y="{top:.1f}" '
            f'width="{max(right - left, 1.0):.1f}" height="{foot - top:.1f}">'
            f"<title>{escape(tooltip)}</title></rect>"
        )

    def strip(self, x: Sequence[float], y: tuple[float, float], style: str) -> None:
        """A thin upright stroke at each x, between two y values; many make a shade."""
        top, foot = sorted((self._at_y(y[0]), self._at_y(y[1])))
        # An element each: strokes of one path would not darken where they cross.
        self._parts += [
            f'<path class="strip {style}" d="M{self._at_x(value)} {top}V{foot}"/>' for value in x
        ]

    def note(self, x: float, y: float, text: str) -> None:
        """A line of text that begins at a point."""
        self._text(self._at_x(x), self._at_y(y), text, "label")

    def vertical(self, x: float, label: str, *, row: int = 0) -> None:
        """A dashed vertical mark with a label at the top; `row` avoids a neighbour's label."""
        at = self._at_x(x)
        self._parts.append(
            f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        )
        ends = at > WIDTH - 110
        self._text(at + (-5 if ends else 5), _TOP + 10 + 14 * row, label, "label" + " end" * ends)

    def labels(self, entries: Sequence[tuple[float, float, str]], *, offset: float = 10) -> None:
        """Names beside points, moved apart vertically where they would touch."""
        placed: list[tuple[float, float, float]] = []
        for x, y, text in sorted(entries, key=lambda entry: -entry[1]):
            width = 6.2 * len(text)
            at_x, at_y = self._at_x(x) + offset, self._at_y(y) + 4
            ends = at_x + width > WIDTH - 4
            left = at_x - 2 * offset - width if ends else at_x
            while any(
                abs(at_y - other_y) < 13
                and left < other_left + other_width
                and other_left < left + width
                for other_left, other_y, other_width in placed
            ):
                at_y += 13
            placed.append((left, at_y, width))
            self._text(at_x - 2 * offset if ends else at_x, at_y, text, "label" + " end" * ends)

    def dot_legend(self, entries: Sequence[tuple[str, str]], *, below: bool = False) -> None:
        """Names of the kinds of dots, (style, name) each, inside the upper left corner, or the
        lower right one."""
        longest = 6.2 * max((len(name) for _, name in entries), default=0)
        left = WIDTH - _RIGHT - longest - 30 if below else _LEFT
        top = HEIGHT - _BOTTOM - 16 * len(entries) if below else _TOP + 10
        for row, (style, name) in enumerate(entries):
            at = top + 16 * row
            self._parts.append(f'<circle class="dot {style}" cx="{left + 12:g}" cy="{at}" r="5"/>')
            self._text(left + 23, at + 4, name, "label")

    def line_legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Names of the lines, (style, name) each, inside the lower right corner."""
        width = max(6.2 * len(name) for _, name in entries) + 26
        left = WIDTH - _RIGHT - width
        for row, (style, name) in enumerate(reversed(entries)):
            at = HEIGHT - _BOTTOM - 12 - 16 * row
            self._parts.append(
                f'<line class="line {style}" x1="{left:.1f}" x2="{left + 18:.1f}" '
                f'y1="{at - 4}" y2="{at - 4}"/>'
            )
            self._text(left + 24, at, name, "label")

    def render(self, description: str) -> str:
        """The markup, with `description` for readers who cannot see it."""
        body = "".join(self._parts)
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(description)}">{body}</svg>'
        )


def _tick(value: float, as_percent: bool) -> str:
    return f"{round(100 * value, 9):g}%" if as_percent else f"{value:g}"
