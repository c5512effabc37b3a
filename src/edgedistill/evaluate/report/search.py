"""Section on what was tried: candidates, the Pareto front, compression passes."""

from __future__ import annotations

from collections.abc import Sequence

from edgedistill.evaluate.report.blocks import (
    Block,
    Cell,
    Items,
    Mark,
    Paragraph,
    Plots,
    Section,
    Table,
)
from edgedistill.evaluate.report.content import Candidate, PassOutcome, ReportContent
from edgedistill.evaluate.report.numbers import MISSING, data_size, milliseconds, percent
from edgedistill.evaluate.report.plots import pareto_plot


def search_section(content: ReportContent) -> Section:
    """Candidates with their plot, then the passes."""
    blocks: list[Block] = []
    score = content.versions.score if content.versions else "accuracy"
    if content.reach:
        blocks += [
            Paragraph("No candidate meets all that is required, on validation texts:"),
            Items(content.reach),
        ]
    if content.candidates:
        blocks += _candidates(content.candidates, score, plotted=content.versions is not None)
    if content.skipped:
        rows: tuple[tuple[Cell, ...], ...] = tuple(content.skipped)
        blocks += [Paragraph("Not tried:"), Table(("Candidate", "Reason"), rows)]
    if content.passes:
        blocks += _passes(content.passes, score)
    return Section("search", "What was tried", tuple(blocks))


def _candidates(candidates: Sequence[Candidate], score: str, *, plotted: bool) -> list[Block]:
    """`score`: what their accuracy is; `plotted`: all their versions have a chart of their own."""
    ordered = sorted(candidates, key=lambda c: (not c.chosen, not c.on_front, -c.accuracy))
    rows: list[tuple[Cell, ...]] = [
        (
            c.name,
            c.family,
            percent(c.accuracy),
            data_size(c.size_bytes),
            milliseconds(c.latency_p95_ms),
            _standing(c),
            c.note,
        )
        for c in ordered
    ]
    num_front = sum(c.on_front for c in candidates)
    count = f"{len(candidates)} candidate{'s' if len(candidates) > 1 else ''}"
    text = f"{count}, {num_front} on the Pareto front: no other is at least "
    text += f"as good in {score}, bytes and p95 and better in one. Chosen on validation texts only."
    name = f"{score[0].upper()}{score[1:]}"
    headings = ("Candidate", "Family", name, "Size", "p95", "Standing", "Note")
    chosen = frozenset(i for i, c in enumerate(ordered) if c.chosen)
    table = Table(headings, tuple(rows), frozenset({2, 3, 4}), emphasised=chosen)
    plots = [] if plotted else [Plots((pareto_plot(candidates),))]
    return [Paragraph(text), *plots, table]


def _standing(candidate: Candidate) -> Mark:
    if candidate.chosen:
        return Mark("chosen", "good")
    return Mark("on the front" if candidate.on_front else "declined", "neutral")


def _passes(passes: Sequence[PassOutcome], score: str) -> list[Block]:
    rows: list[tuple[Cell, ...]] = [
        (
            p.name,
            Mark("kept", "good") if p.kept else Mark("declined", "neutral"),
            _change(data_size(p.size_before_bytes), data_size(p.size_after_bytes)),
            _change(milliseconds(p.latency_p95_before_ms), milliseconds(p.latency_p95_after_ms)),
            _change(percent(p.accuracy_before), percent(p.accuracy_after)),
            p.reason,
        )
        for p in passes
    ]
    num_kept = sum(p.kept for p in passes)
    text = f"Compression: {num_kept} of {len(passes)} passes kept. A pass that does not pay is "
    text += "measured, declined, and listed."
    headings = ("Pass", "Outcome", "Size", "p95", f"Validation {score}", "Reason")
    return [Paragraph(text), Table(headings, tuple(rows), frozenset({2, 3, 4}))]


def _change(before: str, after: str) -> str:
    return MISSING if MISSING in (before, after) else f"{before} → {after}"
