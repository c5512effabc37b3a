"""What the report of every kind of task has: verdict, data, the bundle's files, its making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from edgedistill.core.artefacts import Interval, Judgement
from edgedistill.evaluate.intervals import clopper_pearson_interval
from edgedistill.evaluate.report import content as report
from edgedistill.evaluate.verdict import FalseAbstention, reasons, ships
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.packaging import versions
from edgedistill.pipeline.stages.any_ground import AnyGround
from edgedistill.runtime.bundle import Bundle

#: The figure by which the epoch of a student is chosen.
CLOSENESS = "minus divergence from the teacher (validation)"
#: What the loop keeps of an epoch beside the loss terms.
_NO_TERMS = ("epoch", "validation", "seconds")


def verdict_content(
    spec: Any, judgements: Sequence[Judgement], findings: Sequence[Sequence[str]]
) -> report.ReportContent:
    """A report of the verdict alone, which each kind fills up.

    Args:
        spec: the task. findings: (severity, sentence) of the look at the data.
    """
    return report.ReportContent(
        task=spec.name,
        description=spec.description,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        ships=ships(judgements),
        requirements=tuple(judgements),
        reasons=reasons(judgements),
        confidence=spec.requirements.confidence,
        data_findings=tuple(
            report.DataFinding("warning" if severity == "warning" else "info", sentence, 0)
            for severity, sentence in findings
        ),
        non_goals=spec.boundary.non_goals,
    )


def with_files(footprint: report.Footprint, bundle: Bundle) -> report.Footprint:
    """The footprint with the files of the bundle."""
    files = bundle.manifest.files.items()
    return replace(
        footprint, files=tuple(report.FileSize(name, entry.size_bytes) for name, entry in files)
    )


def false_abstention_interval(
    measured: FalseAbstention | None, confidence: float
) -> Interval | None:
    """In-bounds test rows refused, with their interval; None without a guard."""
    if measured is None:
        return None
    count = measured.refused
    return clopper_pearson_interval(count.num_hits, count.num_rows, confidence=confidence)


def making(
    context: Context[Any],
    trained: Sequence[tuple[str, str, dict[str, Any]]],
    *,
    notes: Sequence[str] = (),
) -> report.Making:
    """Seed, versions, stages and training curves of a run.

    Args:
        trained: name, validation figure and record of each training; without epochs it is left out.
        notes: sentences on how it was made.
    """
    results = context.store.results
    return report.Making(
        notes=(
            *notes,
            *(
                _set_back(name, record["spikes"])
                for name, _, record in trained
                if record.get("spikes")
            ),
        ),
        seeds=(context.spec.seed,),
        versions=tuple(versions().items()),
        fingerprints=tuple((s.name, s.fingerprint[:16]) for s in results),
        stages=tuple(report.StageTime(s.name, s.seconds, s.reused) for s in results),
        curves=tuple(
            report.TrainingCurve(
                name,
                metric,
                tuple(entry["validation"] for entry in record["history"]),
                _terms(record["history"]),
            )
            for name, metric, record in trained
            if record["history"]
        ),
    )


def teaching_notes(ground: AnyGround, training: Mapping[str, Any]) -> list[str]:
    """From whom the student that ships learned, and what was kept of the teacher.

    Args:
        training: the record of its training.
    """
    notes = [*ground.answers.notes]
    if ground.internals:
        notes.append(ground.internals.note)
    if scores := training.get("rounds"):
        told = ", ".join(f"{score:.4g}" for score in (*scores, training["best_score"]))
        notes.append(f"Structure was removed in {len(scores) + 1} rounds, each followed by "
                     f"training; {CLOSENESS}: {told}.")  # fmt: skip
    if scores := training.get("generations"):
        told = ", ".join(f"{score:.4g}" for score in scores)
        notes.append(f"Each of {len(scores)} students in a row learned from the one before it; "
                     f"{CLOSENESS}: {told}.")  # fmt: skip
    return notes


def _terms(history: Sequence[Mapping[str, float]]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Each loss term with its mean in every epoch; 0 where an epoch did not ask for it."""
    names = dict.fromkeys(name for entry in history for name in entry if name not in _NO_TERMS)
    return tuple((name, tuple(entry.get(name, 0.0) for entry in history)) for name in names)


def _set_back(name: str, spikes: Sequence[Mapping[str, float]]) -> str:
    """What the guard against loss spikes did to a training."""
    told = "; ".join(
        f"epoch {spike['epoch']}, batch {spike['batch']}: loss {spike['loss']:.4g}, then "
        f"{spike['rate']:.2g} of the planned rate"
        for spike in spikes
    )
    return f"The loss of the {name} jumped and its weights were set back ({told})."
