"""The report's content, gathered from what a generation run made and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.core.artefacts import Interval, Judgement
from edgedistill.evaluate.fidelity import Hop
from edgedistill.evaluate.generation_score import gain, interval, retention, right_answers
from edgedistill.evaluate.intervals import clopper_pearson_interval
from edgedistill.evaluate.metrics import auroc, risk_coverage, roc_curve
from edgedistill.evaluate.report import content as report
from edgedistill.evaluate.report.versions import Versions
from edgedistill.evaluate.text_boundary import FittedBoundary
from edgedistill.pipeline.generation import alignment
from edgedistill.pipeline.generation.artefact import format_name, least_agreement
from edgedistill.pipeline.generation.measurement import Measured
from edgedistill.pipeline.generation.serving import prompt_text
from edgedistill.pipeline.generation.vocabulary import sentence
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.report_basis import (
    false_abstention_interval,
    making,
    verdict_content,
    with_files,
)
from edgedistill.pipeline.versions import all_versions, version_of
from edgedistill.runtime.bundle import Bundle

if TYPE_CHECKING:
    from edgedistill.pipeline.generation.verification import Made

MAX_FAILURES = 10
SCORE_NAMES = {
    "field_f1": "field F1",
    "exact_match": "exact match",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
}
Answers = Sequence[str | None]


def report_content(
    made: Made,
    fitted: FittedBoundary,
    measured: Measured,
    hops: Sequence[Hop],
    judgements: Sequence[Judgement],
    bundle: Bundle,
) -> report.ReportContent:
    """Everything that the report of this run shows."""
    spec = made.ground.context.spec
    findings = made.ground.data.findings
    return replace(
        verdict_content(spec, judgements, findings),
        shipped=_shipped(made, measured, bundle),
        quality=_quality(made, measured),
        ledger=tuple(hops),
        versions=_versions(made, measured),
        passes=_passes(made),
        boundary=_boundary(made, fitted, measured),
        edge_cases=_wrong_answers(made, measured),
        splits=_splits(made),
        making=_making(made),
    )


def _shipped(made: Made, measured: Measured, bundle: Bundle) -> report.Shipped:
    spec, chosen = made.ground.context.spec, made.artefact.chosen
    layers, width = (made.student.config[key] for key in ("num_hidden_layers", "hidden_size"))
    return report.Shipped(
        family="Llama",
        description=f"{layers} layers of {width}, {chosen.kind} weights, "
        f"{chosen.tokens_per_s:,.0f} new tokens a second on validation prompts; times are of "
        "whole answers",
        footprint=with_files(measured.footprint, bundle),
        teacher=measured.teacher_footprint,
        threads=spec.requirements.threads,
        machine=machine(),
    )


def _quality(made: Made, measured: Measured) -> report.Quality:
    spec, rows = made.ground.context.spec, made.ground.data.rows.test
    metric, confidence = spec.output.scored_by, spec.requirements.confidence
    expected = [row.response for row in rows]
    answers = measured.answers

    def model(name: str, role: str, found: Answers) -> report.ModelQuality:
        ours = answers["shipped"]
        return report.ModelQuality(
            name=name,
            role=role,  # type: ignore[arg-type]
            accuracy=interval(metric, found, expected, confidence=confidence),
            macro_f1=float(right_answers(metric, found, expected).mean()),
            retention=None if role == "teacher" else _retained(made, answers["teacher"], found),
            gain=None if role == "shipped"
            else gain(metric, found, ours, expected, confidence=confidence),
        )  # fmt: skip

    models = (
        model("teacher", "teacher", answers["teacher"]),
        model("bundle", "shipped", answers["shipped"]),
        model("same network, rows only", "undistilled", answers["control"]),
    )
    return report.Quality(len(rows), models, SCORE_NAMES[metric], "whole answers right")


def _retained(made: Made, teacher: Answers, found: Answers) -> Interval:
    spec = made.ground.context.spec
    expected = [row.response for row in made.ground.data.rows.test]
    return retention(
        spec.output.scored_by, teacher, found, expected, confidence=spec.requirements.confidence
    )


def _versions(made: Made, measured: Measured) -> Versions:
    variants = made.artefact.variants
    rows = [
        version_of(
            "student", format_name(v.kind), v, variants[0], v.score,
            least_agreement=least_agreement(v.kind), chosen=v.kept,
        )
        for v in variants
    ]  # fmt: skip
    ends = dict.fromkeys((variants[0], made.artefact.chosen))
    return all_versions(
        rows,
        measured.teacher_footprint,
        [(format_name(v.kind), v.size_bytes) for v in ends],
        score=SCORE_NAMES[made.ground.context.spec.output.scored_by],
    )


def _passes(made: Made) -> tuple[report.PassOutcome, ...]:
    full = made.artefact.variants[0]
    return tuple(
        report.PassOutcome(
            name=v.kind,
            kept=v.kept,
            reason=(v.reason or "smallest that keeps the score")
            + (f"; {v.fallbacks}" if v.fallbacks else ""),
            size_before_bytes=full.size_bytes,
            size_after_bytes=v.size_bytes,
            latency_p95_before_ms=full.p95_ms,
            latency_p95_after_ms=v.p95_ms,
            accuracy_before=full.score,
            accuracy_after=v.score,
        )
        for v in made.artefact.variants
    )


def _boundary(made: Made, fitted: FittedBoundary, measured: Measured) -> report.Boundary:
    spec = made.ground.context.spec
    confidence = spec.requirements.confidence
    expected = [row.response for row in made.ground.data.rows.test]
    right = right_answers(spec.output.scored_by, measured.answers["shipped"], expected)
    curve = risk_coverage(-measured.inside, right)
    groups, roc = tuple[report.OutOfBoundsGroup, ...](), None
    if count := measured.measurements.out_of_bounds_refused:
        finite = np.where(np.isfinite(measured.outside), measured.outside, 1e9)
        recall = clopper_pearson_interval(count.num_hits, count.num_rows, confidence=confidence)
        groups = (
            report.OutOfBoundsGroup("all", count.num_rows, recall, auroc(measured.inside, finite)),
        )
        roc = report.Curve.from_arrays(*roc_curve(measured.inside, finite))
    return report.Boundary(
        score=fitted.boundary.kind,
        reason=fitted.reason,
        asked_rate=fitted.boundary.false_abstention_rate,
        false_abstention=false_abstention_interval(
            measured.measurements.false_abstention, confidence
        ),
        scores=tuple(
            report.ScoreRow(kind, value, 0, kind == fitted.boundary.kind)
            for kind, value in fitted.aurocs.items()
        ),
        groups=groups,
        roc=roc,
        risk_coverage=report.Curve.from_arrays(curve.coverage, curve.risk),
        area=curve.area,
        note=fitted.conformal.reason,
    )


def _wrong_answers(made: Made, measured: Measured) -> report.EdgeCases | None:
    """The first few answers that differ from the expected ones: of the edge cases, or where the
    task has none, of the test prompts."""
    metric, hard = made.ground.context.spec.output.scored_by, made.ground.data.rows.edge_cases
    rows, answers = made.ground.data.rows.test, measured.answers["shipped"]
    if hard:
        rows, answers = hard, measured.edge_answers
    expected = [row.response for row in rows]
    right = right_answers(metric, answers, expected)
    failures = [
        report.Answered(prompt_text(row), row.response, answer or "no answer")
        for row, answer, is_right in zip(rows, answers, right, strict=True)
        if not is_right
    ]
    confidence = made.ground.context.spec.requirements.confidence
    share = clopper_pearson_interval(int(right.sum()), len(right), confidence=confidence)
    return report.EdgeCases(
        len(rows),
        share,
        tuple(failures[:MAX_FAILURES]),
        "Edge cases" if hard else "Whole answers",
        "edge cases" if hard else "test prompts",
    )


def _splits(made: Made) -> tuple[tuple[str, int], ...]:
    rows = made.ground.data.rows
    named = [(name, len(rows.split(name))) for name in ("train", "validation", "test")]
    named += [(f"out of bounds, {name}", len(prompts)) for name, prompts in rows.outside.items()]
    if made.ground.transfer.num_tokens:
        named.append(("tokens with the teacher's distribution", made.ground.transfer.num_tokens))
    return tuple(named)


def _making(made: Made) -> report.Making:
    metric = "minus validation loss (nats a token)"
    trained = [
        ("teacher", metric, made.ground.teacher.training),
        ("student", metric, made.student.training),
        ("control without distillation", metric, made.control.training),
    ]
    told = (
        sentence(made.ground.teacher.training.get("vocabulary")),
        made.ground.transfer.texts.sentence(),
        alignment.sentence(made.student.training.get("alignment")),
    )
    notes = [note for note in told if note is not None]
    return making(made.ground.context, trained, notes=notes)
