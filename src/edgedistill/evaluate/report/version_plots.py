"""Charts of versions beside each other: front, bytes by pass, how long requests took."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgedistill.evaluate.report.blocks import Plot
from edgedistill.evaluate.report.numbers import data_size, milliseconds, percent
from edgedistill.evaluate.report.svg import Chart, Scale, linear_scale, log_scale

Role = Literal["original", "chosen", "front", "other"]
_STYLES: dict[Role, tuple[str, str]] = {
    "chosen": ("series2", "ships"),
    "front": ("series1", "on the front"),
    "original": ("series3", "original"),
    "other": ("faint", "dominated"),
}
_FROM_BELOW: tuple[Role, ...] = ("other", "front", "original", "chosen")
_MOST_NAMES = 6
_MOST_STROKES = 180
_LONGEST_NAME = 34
_LEAST_MS = 1e-6
"""A logarithm has no place for what a coarse clock calls 0."""


@dataclass(frozen=True)
class Point:
    """A version with its bytes, its p95 and its score; None: not scored."""

    name: str
    size_bytes: int
    p95_ms: float
    score: float
    role: Role


def front_plots(points: Sequence[Point], score: str) -> tuple[Plot, Plot]:
    """Score over bytes, and over p95: up and left is better."""
    by_size = _front_plot(
        points, lambda p: p.size_bytes / 1e6, "size, MB (logarithmic)", "bytes", score
    )
    by_time = _front_plot(
        points, lambda p: max(p.p95_ms, _LEAST_MS), "p95, ms (logarithmic)", "time", score
    )
    return by_size, by_time


def _front_plot(
    points: Sequence[Point], cost: Callable[[Point], float], x_title: str, what: str, score: str
) -> Plot:
    costs, scores = [cost(p) for p in points], [p.score for p in points]
    chart = Chart(
        log_scale(min(costs), max(costs)),
        linear_scale(min(scores), max(scores)),
        x_title=x_title,
        y_title=score,
        y_percent=True,
    )
    best, rising = -np.inf, list[Point]()
    for point in sorted(points, key=lambda p: (cost(p), -p.score)):
        if point.score > best:
            best, rising = point.score, [*rising, point]
    chart.line([cost(p) for p in rising], [p.score for p in rising], "series1 thin", steps=True)
    for role in _FROM_BELOW:
        style, radius = _STYLES[role][0], 7.0 if role == "chosen" else 5.5
        for point in (p for p in points if p.role == role):
            chart.point(cost(point), point.score, radius, style, _told(point))
    present = {p.role for p in points}
    # Large and poor is where few lie; where one does, the other corner has more room.
    is_taken = any(cost(p) > max(costs) / 3 and p.score < np.mean([min(scores), max(scores)])
                   for p in points)  # fmt: skip
    chart.dot_legend([_STYLES[role] for role in _STYLES if role in present], below=not is_taken)
    named = [p for p in points if p.role in ("chosen", "original")]
    others = [p for p in rising if p not in named]
    # Spread along the line: all names would lie on each other.
    named += others[:: max(1, math.ceil(len(others) / max(1, _MOST_NAMES - len(named))))]
    chart.labels([(cost(p), p.score, _short(p.name)) for p in named])
    alt = f"{len(points)} versions by {what} and {score}; best for their {what}: "
    alt += "; ".join(_told(p) for p in rising)
    return Plot(chart.render(alt), f"{score[0].upper()}{score[1:]} over {what}", alt)


def _told(point: Point) -> str:
    return (
        f"{point.name}: {percent(point.score)}, {data_size(point.size_bytes)}, "
        f"p95 {milliseconds(point.p95_ms)}"
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def waterfall_plot(steps: Sequence[tuple[str, int]]) -> Plot:
    """What each pass took off the bytes, from the first step to what ships.

    Args:
        steps: (what was done, bytes after it); the first is where it begins.
    """
    num_rows = len(steps) + (len(steps) > 1)
    chart = Chart(
        linear_scale(0.0, max(size for _, size in steps) / 1e6),
        Scale(0.0, float(num_rows), ()),
        x_title="MB of model and tokenizer",
        y_title="",
    )
    told = []
    for row, (name, size) in enumerate(steps):
        before = steps[row - 1][1] if row else 0
        style = "series1" if row == 0 else "series2" if size < before else "faint"
        change = data_size(size) if row == 0 else _change(before, size)
        told.append(f"{name} {change}")
        _row(chart, num_rows, row, (before / 1e6, size / 1e6), style, f"{name}: {change}")
    if len(steps) > 1:
        first, last = steps[0][1], steps[-1][1]
        text = f"ships: {data_size(last)}, {first / last:.1f}× smaller"
        told.append(text)
        _row(chart, num_rows, num_rows - 1, (0.0, last / 1e6), "series3", text)
    alt = "bytes by pass: " + "; ".join(told)
    return Plot(chart.render(alt), "Bytes by pass", alt)


def bytes_plot(sizes: Sequence[tuple[str, int]]) -> Plot:
    """Bytes of each version, one bar below the other; the first is the original."""
    chart = Chart(
        linear_scale(0.0, max(size for _, size in sizes) / 1e6),
        Scale(0.0, float(len(sizes)), ()),
        x_title="MB of model and tokenizer",
        y_title="",
    )
    told = [f"{name}: {data_size(size)}" for name, size in sizes]
    for row, ((_, size), text) in enumerate(zip(sizes, told, strict=True)):
        style = "series3" if row == 0 else "series1"
        _row(chart, len(sizes), row, (0.0, size / 1e6), style, text)
    alt = "bytes: " + "; ".join(told)
    return Plot(chart.render(alt), "Bytes", alt)


def _row(
    chart: Chart, num_rows: int, row: int, x: tuple[float, float], style: str, text: str
) -> None:
    """Row `row` from the top: its text, and the bar below it."""
    foot = num_rows - 1.0 - row
    chart.row_bar(x, (foot + 0.12, foot + 0.52), style, text)
    chart.note(0.0, foot + 0.62, text)


def _change(before: int, after: int) -> str:
    sign = "−" if after < before else "+"
    share = abs(after - before) / before
    return f"{sign}{data_size(abs(after - before))} ({sign}{share:.0%})"


def latency_strips(rows: Sequence[tuple[str, Sequence[float]]]) -> Plot:
    """Single timed requests of each version: a stroke each, where they lie thick it is dark.

    Of many, an even share of the sorted ones is drawn, fastest and slowest included.

    Args:
        rows: (name, milliseconds).
    """
    ordered = [
        (name, np.sort(np.maximum(np.asarray(samples, dtype=float), _LEAST_MS)))
        for name, samples in rows
    ]
    low = min(float(samples[0]) for _, samples in ordered)
    high = max(float(samples[-1]) for _, samples in ordered)
    chart = Chart(
        log_scale(low, high),
        Scale(0.0, float(len(ordered)), ()),
        x_title="milliseconds a request (logarithmic)",
        y_title="",
    )
    told = []
    for row, (name, samples) in enumerate(ordered):
        foot = len(ordered) - 1.0 - row
        shown = np.linspace(0, len(samples) - 1, min(len(samples), _MOST_STROKES)).astype(int)
        style = "series1" if row else "faint"
        chart.strip(samples[shown].tolist(), (foot + 0.12, foot + 0.52), style)
        p50, p95 = (float(value) for value in np.percentile(samples, [50, 95]))
        text = f"{name}: p50 {milliseconds(p50)}, p95 {milliseconds(p95)}"
        for value, radius in ((p50, 5.0), (p95, 3.5)):
            chart.point(value, foot + 0.32, radius, "series2", text)
        # From the left edge of the scale, which is a little below the fastest.
        chart.note(low / 1.2, foot + 0.62, text)
        told.append(f"{text} ({len(samples):,} requests)")
    alt = "latency: " + "; ".join(told)
    return Plot(chart.render(alt), "Timed requests (dots: p50, p95)", alt)
