"""The comparison of bundles as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edgedistill.evaluate.comparison import retentions
from edgedistill.evaluate.report.blocks import Block, Cell, Mark, Paragraph, Plots, Section, Table
from edgedistill.evaluate.report.numbers import (
    MISSING,
    data_size,
    milliseconds,
    percent,
    percent_interval,
)
from edgedistill.evaluate.report.page import page
from edgedistill.evaluate.report.version_plots import (
    Point,
    Role,
    bytes_plot,
    front_plots,
    latency_strips,
)
from edgedistill.runtime.comparing import Comparison, SpeedUp


def comparison_page(comparison: Comparison) -> str:
    """The whole document."""
    title = f"{len(comparison.sides)} bundles side by side"
    header = (
        f'<header><p class="eyebrow">EdgeDistill comparison</p><h1>{escape(title)}</h1></header>'
    )
    return page(title, header, [Section("sides", "Side by side", tuple(_blocks(comparison)))])


def _blocks(comparison: Comparison) -> list[Block]:
    sides = comparison.sides
    text = (
        f"{comparison.num_rows:,} rows, of which {comparison.num_labelled:,} say what is right. "
        f"All on {comparison.threads} thread{'s' if comparison.threads > 1 else ''}, timed in turn "
        f"(A B A B …) in one run; the first is what the others are compared with."
    )
    plots = [Plots((
        bytes_plot([(side.label, side.size_bytes) for side in sides]),
        latency_strips([(side.label, side.samples_ms) for side in sides]),
    ))]  # fmt: skip
    if points := _points(comparison):
        plots.insert(0, Plots(front_plots(points, "share right")))
    return [Paragraph(text), comparison_table(comparison), *plots]


def comparison_table(comparison: Comparison) -> Table:
    """One column a bundle; intervals at 95 %, paired by row or by block of calls."""
    sides, kept = comparison.sides, retentions(comparison)
    rows: tuple[tuple[Cell, ...], ...] = (
        ("Size", *(data_size(side.size_bytes) for side in sides)),
        ("Smaller", *(f"{side.times_smaller:.2f}×" for side in sides)),
        ("p50", *(milliseconds(side.latency.p50_ms) for side in sides)),
        ("p95", *(milliseconds(side.latency.p95_ms) for side in sides)),
        ("p99", *(milliseconds(side.latency.p99_ms) for side in sides)),
        ("Faster", *(_times(side.times_faster) for side in sides)),
        ("Right", *(percent(side.accuracy) for side in sides)),
        ("Retention", *(percent_interval(interval) for interval in kept)),
        ("Abstains", *(percent(side.abstention_rate, 1) for side in sides)),
        ("Same answer", *(percent(side.agreement) for side in sides)),
        ("Failed its verdict", *(_failed(side.failed) for side in sides)),
    )
    headings = ("", *(side.label for side in sides))
    return Table(headings, rows, frozenset(range(1, len(headings))))


def _failed(failed: Sequence[str]) -> Cell:
    return Mark(", ".join(failed), "bad") if failed else MISSING


def _times(speed_up: SpeedUp) -> str:
    if speed_up.low is None or speed_up.high is None:
        return f"{speed_up.value:.2f}×"
    return f"{speed_up.value:.2f}× ({speed_up.low:.2f} to {speed_up.high:.2f})"


def _points(comparison: Comparison) -> list[Point]:
    """The bundles; none where no row says what is right."""
    sides = comparison.sides
    if not comparison.num_labelled:
        return []
    costs = [(s.size_bytes, s.latency.p95_ms, -(s.accuracy or 0.0)) for s in sides]
    roles: list[Role] = ["other" if _is_beaten(own, costs) else "front" for own in costs]
    roles[0] = "original"
    return [
        Point(side.label, side.size_bytes, side.latency.p95_ms, side.accuracy or 0.0, role)
        for side, role in zip(sides, roles, strict=True)
    ]


def _is_beaten(own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether another costs no more in any respect and less in one."""
    return any(
        all(a <= b for a, b in zip(other, own, strict=True)) and tuple(other) != tuple(own)
        for other in others
    )
