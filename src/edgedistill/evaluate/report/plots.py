"""The report's plots, each from the values it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgedistill.evaluate.report.blocks import Plot
from edgedistill.evaluate.report.content import (
    Candidate,
    Curve,
    Footprint,
    ReliabilityBin,
    TrainingCurve,
)
from edgedistill.evaluate.report.numbers import data_size, decimal, milliseconds, percent
from edgedistill.evaluate.report.svg import Chart, Scale, linear_scale, log_scale

_SHARE = Scale(0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
_NUM_LATENCY_BARS = 40
_NUM_SERIES = 4


def pareto_plot(candidates: Sequence[Candidate]) -> Plot:
    """Quality over bytes, the area of a dot growing with p95; the front joined by steps."""
    ordered = sorted(candidates, key=lambda c: c.size_bytes)
    accuracies = [c.accuracy for c in ordered]
    chart = Chart(
        log_scale(ordered[0].size_bytes / 1e6, ordered[-1].size_bytes / 1e6),
        linear_scale(min(accuracies), max(accuracies)),
        x_title="size, MB (logarithmic); area of a dot: p95 latency",
        y_title="validation accuracy",
        y_percent=True,
    )
    front = [c for c in ordered if c.on_front]
    if front:
        # Only what no smaller candidate beats rises; the rest is on the front by its speed.
        rising = [c for i, c in enumerate(front) if c.accuracy >= max(_accuracies(front[: i + 1]))]
        chart.line(
            [c.size_bytes / 1e6 for c in rising], _accuracies(rising), "series1 thin", steps=True
        )
    slowest = max(c.latency_p95_ms for c in ordered)
    for candidate in ordered:
        style = "series2" if candidate.chosen else "series1" if candidate.on_front else "faint"
        chart.point(
            candidate.size_bytes / 1e6,
            candidate.accuracy,
            4 + 9 * math.sqrt(candidate.latency_p95_ms / slowest) if slowest > 0 else 6,
            style,
            f"{candidate.name}: {percent(candidate.accuracy)}, "
            f"{data_size(candidate.size_bytes)}, p95 {milliseconds(candidate.latency_p95_ms)}",
        )
    chart.dot_legend([("series2", "chosen"), ("series1", "on the front"), ("faint", "declined")])
    named = [c for c in ordered if c.on_front or c.chosen]
    chart.labels([(c.size_bytes / 1e6, c.accuracy, c.name) for c in named], offset=15)
    alt = f"{len(ordered)} candidates by size and accuracy, {len(front)} on the Pareto front"
    return Plot(chart.render(alt), "Candidates: quality, bytes, p95", alt)


def _accuracies(candidates: Sequence[Candidate]) -> list[float]:
    return [c.accuracy for c in candidates]


def roc_plot(curve: Curve, auroc: float | None, shipped: tuple[float, float] | None = None) -> Plot:
    """Share of out-of-bounds texts refused over share of in-bounds texts refused.

    `shipped` is the point of the threshold in the bundle.
    """
    chart = Chart(
        _SHARE,
        _SHARE,
        x_title="in-bounds texts refused",
        y_title="out-of-bounds texts refused",
        x_percent=True,
        y_percent=True,
    )
    chart.line([0, 1], [0, 1], "reference")
    chart.line(curve.x, curve.y, "series1")
    if shipped:
        chart.point(*shipped, 5, "series2", "the threshold in the bundle")
        chart.labels([(*shipped, "threshold in the bundle")])
    alt = f"ROC of the guard, area {decimal(auroc)}"
    return Plot(chart.render(alt), f"Out-of-bounds ROC, AUROC {decimal(auroc)}", alt)


def risk_coverage_plot(curve: Curve, area: float | None) -> Plot:
    """Error among the answered texts over the share answered."""
    chart = Chart(
        _SHARE,
        linear_scale(0.0, max(curve.y) or 0.01),
        x_title="coverage: texts answered",
        y_title="risk: error among them",
        x_percent=True,
        y_percent=True,
    )
    chart.line(curve.x, curve.y, "series1")
    alt = f"risk over coverage, area {decimal(area)}"
    return Plot(chart.render(alt), f"Risk and coverage, area {decimal(area)}", alt)


def reliability_plot(bins: Sequence[ReliabilityBin]) -> Plot:
    """Accuracy over confidence; on the diagonal a confidence means what it says."""
    chart = Chart(
        _SHARE, _SHARE, x_title="confidence", y_title="accuracy", x_percent=True, y_percent=True
    )
    for b in bins:
        chart.bar(
            (b.low, b.high),
            b.accuracy,
            "series1 soft",
            f"{b.num_rows:,} rows, confidence {percent(b.mean_confidence, 1)}, "
            f"accuracy {percent(b.accuracy, 1)}",
        )
    chart.line([0, 1], [0, 1], "reference")
    for b in bins:
        chart.point(b.mean_confidence, b.accuracy, 3.5, "series1", f"{b.num_rows:,} rows")
    alt = f"reliability diagram, {len(bins)} bins with rows"
    return Plot(chart.render(alt), "Reliability", alt)


def training_plot(curves: Sequence[TrainingCurve]) -> Plot:
    """A validation figure over epochs, for up to four trainings of the same metric."""
    shown = [curve for curve in curves if curve.values][:_NUM_SERIES]
    values = [value for curve in shown for value in curve.values]
    is_share = all(0 <= value <= 1 for value in values)
    longest = max(len(curve.values) for curve in shown)
    chart = Chart(
        linear_scale(1, longest) if longest > 5 else Scale(0, 5, (0, 1, 2, 3, 4, 5)),
        linear_scale(min(values), max(values)),
        x_title="epoch",
        y_title=shown[0].metric,
        y_percent=is_share,
    )
    for number, curve in enumerate(shown, start=1):
        epochs = [float(e) for e in range(1, len(curve.values) + 1)]
        chart.line(epochs, curve.values, f"series{number}")
        chart.point(epochs[-1], curve.values[-1], 3.5, f"series{number}", curve.name)
    chart.line_legend([(f"series{n}", curve.name) for n, curve in enumerate(shown, start=1)])
    alt = f"{shown[0].metric} by epoch of {', '.join(curve.name for curve in shown)}"
    return Plot(chart.render(alt), f"Training: {shown[0].metric}", alt)


def latency_plot(footprint: Footprint) -> Plot:
    """How often which latency was measured, with p50 and p95; the last bar holds the tail."""
    latency = footprint.latency
    low, high = min(footprint.samples_ms), max(latency.p99_ms, latency.p95_ms * 1.1)
    width = (high - low) / _NUM_LATENCY_BARS or 1e-6
    counts = [0] * _NUM_LATENCY_BARS
    for sample in footprint.samples_ms:
        counts[min(max(int((sample - low) / width), 0), _NUM_LATENCY_BARS - 1)] += 1
    num_samples = len(footprint.samples_ms)
    chart = Chart(
        linear_scale(low, high),
        linear_scale(0, max(counts) / num_samples),
        x_title="milliseconds a text, tokenization included (last bar: all above)",
        y_title="share of measurements",
        y_percent=True,
    )
    for i, count in enumerate(counts):
        left = low + i * width
        chart.bar(
            (left, left + width), count / num_samples, "series1", f"from {left:.4f} ms: {count:,}"
        )
    chart.vertical(latency.p50_ms, f"p50 {milliseconds(latency.p50_ms)}")
    chart.vertical(latency.p95_ms, f"p95 {milliseconds(latency.p95_ms)}", row=1)
    alt = f"latencies of {num_samples:,} measurements, p95 {milliseconds(latency.p95_ms)}"
    return Plot(chart.render(alt), "Latency", alt)
