"""Sections on the outcome: summary, requirements, what ships, quality, fidelity."""

from __future__ import annotations

from statistics import median

from edgedistill.evaluate.report.blocks import (
    Block,
    Cell,
    Columns,
    Figures,
    Items,
    Mark,
    Paragraph,
    Plots,
    Section,
    Table,
)
from edgedistill.evaluate.report.content import (
    Footprint,
    ModelQuality,
    Quality,
    ReportContent,
    Shipped,
)
from edgedistill.evaluate.report.numbers import (
    MISSING,
    data_size,
    decimal,
    milliseconds,
    percent,
    percent_interval,
    points_interval,
    ratio,
)
from edgedistill.evaluate.report.plots import latency_plot

#: Figures a second: more is better.
RATES = ("Throughput", "Tokens written")


def verdict_mark(holds: bool) -> Mark:
    """Holds or not, in words."""
    return Mark("holds", "good") if holds else Mark("does not hold", "bad")


def model_quality(content: ReportContent, role: str) -> ModelQuality | None:
    """The first model of a role, if it was scored."""
    models = content.quality.models if content.quality else ()
    return next((model for model in models if model.role == role), None)


def summarise(content: ReportContent) -> str:
    """The outcome in one paragraph, made of what was measured and nothing else."""
    sentences = [_what_ships(content), _what_it_keeps(content), _what_distillation_brought(content)]
    if boundary := content.boundary:
        refused = next((group for group in boundary.groups), None)
        text = f"The guard ({boundary.score}) was asked to refuse at most "
        text += f"{percent(boundary.asked_rate, 1)} of in-bounds texts"
        if boundary.false_abstention:
            text += f" and refuses {percent(boundary.false_abstention.value, 1)}"
        if refused:
            text += f"; of out-of-bounds texts it refuses {percent(refused.recall.value, 1)}"
        sentences.append(text + ".")
    sentences.append(_how_many_hold(content))
    return " ".join(sentence for sentence in sentences if sentence)


def _how_many_hold(content: ReportContent) -> str:
    total = len(content.requirements)
    failed = sum(not judgement.holds for judgement in content.requirements)
    if not total:
        return "No requirement was judged."
    if not failed:
        return f"All {total} requirements hold on their confidence bounds."
    return f"{failed} of {total} requirements {'does' if failed == 1 else 'do'} not hold."


def _what_ships(content: ReportContent) -> str:
    if content.shipped is None:
        return "No bundle was made."
    footprint, teacher = content.shipped.footprint, content.shipped.teacher
    family = content.shipped.family
    what = "an ensemble" if family == "ensemble" else f"a {family} student"
    text = (
        f"The bundle is {what} of {data_size(footprint.size_bytes)} "
        f"that answers a text in {milliseconds(footprint.latency.p50_ms)} "
        f"(p95 {milliseconds(footprint.latency.p95_ms)}), tokenization included"
    )
    if teacher:
        text += (
            f": {ratio(teacher.size_bytes, footprint.size_bytes)} smaller and "
            f"{ratio(teacher.latency.p50_ms, footprint.latency.p50_ms)} faster than its teacher"
        )
    return text + "."


def _what_it_keeps(content: ReportContent) -> str:
    model = model_quality(content, "shipped")
    if model is None or content.quality is None:
        return ""
    score, num_rows = content.quality.score, f"{content.quality.num_rows:,} test texts"
    text = f"It gets {percent(model.accuracy.value)} of {num_rows} right"
    if score != "accuracy":
        text = f"It reaches {percent(model.accuracy.value)} {score} on {num_rows}"
    if model.retention:
        text += f", which is {percent_interval(model.retention)} of the teacher's {score}"
    labels = "".join(
        f", and has the {label.name} of {percent(label.shipped.value)} right "
        f"({percent_interval(label.retention)} of the teacher's)"
        for label in content.labels
    )
    return text + labels + "."


def _what_distillation_brought(content: ReportContent) -> str:
    control = model_quality(content, "undistilled")
    if control is None or control.gain is None:
        return ""
    proved = "" if control.gain.low > 0 or control.gain.high < 0 else ", not proved"
    score = content.quality.score if content.quality else "accuracy"
    return f"Distillation brought {points_interval(control.gain)} of {score}{proved}."


def requirements_section(content: ReportContent) -> Section:
    """Every requirement with what was measured and the bound that decided."""
    rows: list[tuple[Cell, ...]] = [
        (
            j.requirement,
            j.required,
            j.measured,
            str(j.detail.get("bound", MISSING)),
            str(j.detail.get("basis", MISSING)),
            verdict_mark(j.holds),
        )
        for j in content.requirements
    ]
    table = Table(
        ("Requirement", "Required", "Measured", "Bound", "Judged on", "Verdict"),
        tuple(rows),
        frozenset({3}),
        caption=f"Confidence of every interval and bound: {percent(content.confidence, 0)}.",
    )
    none = Paragraph("The task states no requirement, so nothing could be judged.")
    return Section("requirements", "Requirements", (table if rows else none,))


def shipped_section(shipped: Shipped) -> Section:
    """Family, bytes, latency, throughput, memory, and the ratios to the teacher."""
    footprint = shipped.footprint
    threads = f"{shipped.threads} thread{'s' if shipped.threads > 1 else ''}"
    beside: list[Block] = []
    if footprint.samples_ms:
        beside.append(Plots((latency_plot(footprint),)))
    if footprint.files:
        rows = tuple((file.name, data_size(file.size_bytes)) for file in footprint.files)
        beside.append(Table(("File of the bundle", "Size"), rows, frozenset({1})))
    blocks = (
        Paragraph(f"{shipped.family}: {shipped.description}"),
        Figures(_headlines(footprint, shipped.teacher)),
        Columns(((_footprint_table(footprint, shipped.teacher),), tuple(beside))),
        Paragraph(f"Measured alone at batch 1 on {threads}. {shipped.machine}".strip(), muted=True),
    )
    return Section("shipped", "What ships", blocks)


def _headlines(footprint: Footprint, teacher: Footprint | None) -> tuple[tuple[str, str, str], ...]:
    smaller = faster = ""
    if teacher:
        smaller = f"{ratio(teacher.size_bytes, footprint.size_bytes)} smaller than the teacher"
        faster = (
            f"{ratio(teacher.latency.p50_ms, footprint.latency.p50_ms)} faster than the teacher"
        )
    entries = [
        ("Size", data_size(footprint.size_bytes), smaller),
        ("p50", milliseconds(footprint.latency.p50_ms), faster),
        ("p95", milliseconds(footprint.latency.p95_ms), "tokenization included"),
    ]
    if footprint.throughput_per_s is not None:
        entries.append(("Throughput", f"{footprint.throughput_per_s:,.0f}/s", "texts"))
    if footprint.peak_memory_bytes is not None:
        entries.append(("Peak memory", data_size(footprint.peak_memory_bytes), "of the process"))
    if starts := footprint.cold_starts_ms:
        remark = f"median of {len(starts)} starts" if len(starts) > 1 else "one start"
        entries.append(("Cold start", milliseconds(median(starts)), remark))
    return tuple(entries)


def _footprint_table(footprint: Footprint, teacher: Footprint | None) -> Table:
    names = ["Size"]
    names += [f"{q}, with tokenization" for q in ("p50", "p95", "p99")]
    names += [f"{q}, model alone" for q in ("p50", "p95", "p99")]
    names += ["p50, to the first token", "p95, to the first token", "Tokens written"]
    names += ["Throughput", "Peak memory", "Cold start"]

    def values(f: Footprint | None) -> list[float | None]:
        if f is None:
            return [None] * len(names)
        model, first = f.model_latency, f.first_token
        return [
            f.size_bytes,
            f.latency.p50_ms,
            f.latency.p95_ms,
            f.latency.p99_ms,
            model.p50_ms if model else None,
            model.p95_ms if model else None,
            model.p99_ms if model else None,
            first.p50_ms if first else None,
            first.p95_ms if first else None,
            f.tokens_per_s,
            f.throughput_per_s,
            f.peak_memory_bytes,
            median(f.cold_starts_ms) if f.cold_starts_ms else None,
        ]

    rows = []
    for name, ours, theirs in zip(names, values(footprint), values(teacher), strict=True):
        if ours is None:
            continue
        larger_is_better = name in RATES
        times = ratio(ours, theirs) if larger_is_better else ratio(theirs, ours)
        rows.append((name, _quantity(name, ours), _quantity(name, theirs), times))
    headings = ("", "Bundle", "Teacher", "Gain")
    if teacher is None:
        return Table(headings[:2], tuple(row[:2] for row in rows), frozenset({1}))
    return Table(headings, tuple(rows), frozenset({1, 2, 3}))


def _quantity(name: str, value: float | None) -> str:
    if value is None:
        return MISSING
    if name.startswith(("p", "Cold")):
        return milliseconds(value)
    return f"{value:,.0f}/s" if name in RATES else data_size(value)


def quality_section(quality: Quality) -> Section:
    """Accuracy, macro F1 and retention of the bundle, its teacher and its controls."""
    rows = tuple(
        (
            model.name,
            percent_interval(model.accuracy),
            decimal(model.macro_f1),
            percent_interval(model.retention),
            points_interval(model.gain),
        )
        for model in quality.models
    )
    names = [f"{name[0].upper()}{name[1:]}" for name in (quality.score, quality.second_score)]
    headings = ("Model", *names, "Retention", "Bundle ahead by")
    shipped = frozenset(i for i, model in enumerate(quality.models) if model.role == "shipped")
    table = Table(
        headings,
        rows,
        frozenset({1, 2, 3, 4}),
        f"{quality.num_rows:,} test texts, scored once. Intervals in brackets; retention and "
        "differences are paired by text.",
        shipped,
    )
    return Section("quality", "Quality", (table, Items(tuple(_controls(quality)))))


def _controls(quality: Quality) -> list[str]:
    """What each control says, or that it is missing."""
    sentences = []
    for role, name in (
        ("undistilled", "the same student trained without the teacher"),
        ("linear", "the linear control"),
    ):
        gains = [model.gain for model in quality.models if model.role == role and model.gain]
        if not gains and quality.score == "accuracy":
            sentences.append(f"No comparison with {name} was made.")
        for gain in gains:
            clear = "ahead of" if gain.low > 0 else "behind" if gain.high < 0 else "not told from"
            tail = "the interval excludes zero" if clear != "not told from" else "it includes zero"
            sentences.append(f"The bundle is {clear} {name}: {points_interval(gain)}; {tail}.")
    return sentences
