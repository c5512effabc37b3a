"""The section that shows the original and every version of a run side by side."""

from __future__ import annotations

from edgedistill.evaluate.report.blocks import Block, Cell, Mark, Paragraph, Plots, Section, Table
from edgedistill.evaluate.report.content import ReportContent
from edgedistill.evaluate.report.numbers import (
    MISSING,
    data_size,
    milliseconds,
    percent,
    percent_interval,
    ratio,
)
from edgedistill.evaluate.report.outcome import model_quality
from edgedistill.evaluate.report.version_plots import (
    Point,
    Role,
    front_plots,
    latency_strips,
    waterfall_plot,
)
from edgedistill.evaluate.report.versions import Version, Versions


def versions_section(content: ReportContent, versions: Versions) -> Section:
    """On the test texts original and bundle, on validation texts every version; four charts."""
    blocks: list[Block] = []
    if (table := _original_and_bundle(content)) is not None:
        blocks.append(table)
    blocks += [Plots(front_plots(_points(versions), f"validation {versions.score}"))]
    plots = [waterfall_plot(versions.bytes_by_pass)]
    shipped = content.shipped
    if shipped and shipped.teacher and shipped.teacher.samples_ms and shipped.footprint.samples_ms:
        rows = [("original", shipped.teacher.samples_ms), ("bundle", shipped.footprint.samples_ms)]
        plots.append(latency_strips(rows))
    blocks += [Plots(tuple(plots)), *_all(versions)]
    return Section("versions", "Original and versions", tuple(blocks))


def _original_and_bundle(content: ReportContent) -> Table | None:
    """The two that were scored on the test texts and timed in turn."""
    shipped = content.shipped
    teacher, bundle = model_quality(content, "teacher"), model_quality(content, "shipped")
    if shipped is None or shipped.teacher is None or teacher is None or bundle is None:
        return None
    broken = next((hop.name for hop in content.ledger if not hop.holds), None)
    ledger: Cell = MISSING
    if content.ledger:
        ledger = Mark(f"{broken} breaks", "bad") if broken else Mark("holds", "good")
    rows: list[tuple[Cell, ...]] = []
    for name, footprint, quality, kept in (
        ("original (teacher)", shipped.teacher, teacher, MISSING),
        ("bundle", shipped.footprint, bundle, percent_interval(bundle.retention)),
    ):
        is_bundle = name == "bundle"
        rows.append((
            name,
            data_size(footprint.size_bytes),
            ratio(shipped.teacher.size_bytes, footprint.size_bytes) if is_bundle else MISSING,
            milliseconds(footprint.latency.p50_ms),
            ratio(shipped.teacher.latency.p50_ms, footprint.latency.p50_ms)
            if is_bundle else MISSING,
            percent_interval(quality.accuracy),
            kept,
            ledger if is_bundle else MISSING,
        ))  # fmt: skip
    score = content.quality.score if content.quality else "accuracy"
    score = f"{score[0].upper()}{score[1:]}"
    headings = ("", "Size", "Smaller", "p50", "Faster", score, "Retention", "Ledger")
    return Table(
        headings,
        tuple(rows),
        frozenset(range(1, 7)),
        "On the test texts, timed in turn in one run; retention is paired by text.",
        frozenset({1}),
    )


def _points(versions: Versions) -> list[Point]:
    """Every version, and the original where it was scored on the same rows."""
    several = len({row.of for row in versions.rows}) > 1
    points = [
        Point(
            row.name if several else row.passes, row.size_bytes, row.p95_ms, row.score, _role(row)
        )
        for row in versions.rows
    ]
    if versions.original_score is not None:
        points.append(Point(
            versions.original, versions.original_bytes, versions.original_p95_ms,
            versions.original_score, "original",
        ))  # fmt: skip
    return points


def _role(row: Version) -> Role:
    return "chosen" if row.chosen else "front" if row.on_front else "other"


def _all(versions: Versions) -> list[Block]:
    # The student that ships before the others; its versions as they were made.
    students = list(
        dict.fromkeys(row.of for row in sorted(versions.rows, key=lambda row: not row.chosen))
    )
    ordered = sorted(versions.rows, key=lambda row: students.index(row.of))
    rows: list[tuple[Cell, ...]] = [
        (
            *((row.of,) if len(students) > 1 else ()),
            row.passes,
            data_size(row.size_bytes),
            ratio(versions.original_bytes, row.size_bytes),
            milliseconds(row.p95_ms),
            f"{row.times_faster:.2f}×",
            percent(row.score),
            percent_interval(row.retention, 1),
            percent(row.agreement, 1),
            _standing(row),
        )
        for row in ordered
    ]  # fmt: skip
    score = f"{versions.score[0].upper()}{versions.score[1:]}"
    headings = (
        *(("Student",) if len(students) > 1 else ()),
        "Version", "Size", "Smaller", "p95", "Faster", score, "Keeps", "Same", "Standing",
    )  # fmt: skip
    first = len(headings) - 8
    num_front = sum(row.on_front for row in versions.rows)
    text = (
        f"{len(rows)} versions, {num_front} on the front: no other is at least as good in score, "
        "bytes and p95 and better in one. Smaller: than the original. Faster (p50, timed in turn), "
        "keeps (of the score, paired by row) and same answers: against the same student in full "
        "precision. A version that changes more answers than the fidelity ledger lets pass breaks "
        "it. Why each was declined stands under what was tried."
    )
    chosen = frozenset(i for i, row in enumerate(ordered) if row.chosen)
    table = Table(
        headings,
        tuple(rows),
        frozenset(range(first, first + 7)),
        "On validation texts.",
        emphasised=chosen,
    )
    return [Paragraph(text, muted=True), table]


def _standing(row: Version) -> Mark:
    if row.chosen:
        return Mark("ships", "good")
    if row.breaks:
        return Mark("breaks", "bad")
    if row.kept:
        return Mark("its best", "neutral")
    return Mark("front" if row.on_front else "declined", "neutral")
