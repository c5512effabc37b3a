"""Stage `artefact`: export the student, try the compression passes, keep the one that pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.requirements import BundleRequirements
from edgedistill.evaluate.generation_metrics import FieldCounts
from edgedistill.evaluate.span_metrics import exact_counts, retention
from edgedistill.pipeline.extraction.outputs import GoldTexts, Said, said_by_file
from edgedistill.pipeline.extraction.student import Ground, Student
from edgedistill.pipeline.stages.artefact import (
    FULL,
    NUM_TIMED,
    calibration_inputs,
    compress_and_keep,
    kept_file,
)
from edgedistill.pipeline.stages.awareness import export_aware
from edgedistill.pipeline.stages.other_runtimes import litert_files
from edgedistill.pipeline.stages.side_by_side import side_by_side
from edgedistill.pipeline.stages.variants import Variant, asked_settings, read_variants
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.measuring import alternate_ms
from edgedistill.runtime.networks import Network, load_network

ANSWERED = "validation_right.npz"
ROOMS = (
    "export", "compress", "train", "models", "runtime", "evaluate/span_metrics",
    "evaluate/generation_metrics", "evaluate/intervals", "pipeline/stages",
    "pipeline/extraction/artefact", "pipeline/extraction/outputs",
)  # fmt: skip


@dataclass(frozen=True)
class Artefact:
    """The file that would ship, and what was tried on the way; a variant's `accuracy` is its span
    F1 on validation (with labels: the mean of it and of their accuracies), its `agreement` the
    share of equal tags (or of equal values of a label, where that is less)."""

    student: Student
    stage: StageResult
    variants: tuple[Variant, ...]

    @property
    def chosen(self) -> Variant:
        """The variant that ships."""
        return next(v for v in self.variants if v.kept)

    @property
    def model(self) -> Path:
        """The compressed file, in the runtime that it is for."""
        return kept_file(self.stage.folder)

    @property
    def full(self) -> Path:
        """The full-precision export it was made from."""
        return self.stage.folder / FULL

    def validation(self) -> tuple[FieldCounts, np.ndarray]:
        """Spans of each validation text as the file finds them, and which of its labels are right,
        bool [n, labels]."""
        with np.load(self.stage.folder / ANSWERED) as arrays:
            return FieldCounts(*arrays["spans"].T), arrays["labels"]


def make_artefact(ground: Ground, student: Student, *, is_trial: bool = False) -> Artefact:
    """Export, compress, measure, choose.

    Args:
        is_trial: only the smallest file is measured where that serves.
    """
    context, teacher = ground.context, ground.teacher
    required = context.spec.requirements
    limits = {
        "size_mb": required.size_mb, "p95_ms": required.latency_p95_ms,
        "memory_mb": required.memory_mb,
    }  # fmt: skip
    inputs = {
        "student": student.stage.fingerprint, "threads": required.threads, "limits": limits,
        "compress": asked_settings(context.spec), "confidence": required.confidence,
        "is_trial": is_trial,
    }  # fmt: skip

    name = student.stage.name.replace("student-", "artefact-")

    def compute(folder: Path) -> None:
        from edgedistill.export.onnx import OnnxExporter

        model = student.load()
        OnnxExporter().write(model, to=folder / FULL)
        transfer = ground.transfer
        calibration = calibration_inputs(
            transfer.documents.texts, transfer.num_labelled, teacher.pad_id
        )
        bench = _Bench(GoldTexts(ground.data.rows.validation, teacher), required)
        packed = teacher.encoder.encoder.packed
        trained = export_aware(ground, model, name, folder)
        others = litert_files(
            context, name, model, folder, calibration, context.spec.input.max_tokens
        )
        best = compress_and_keep(
            context, name, folder, calibration, bench.measure, packed, trained, others,
            is_trial=is_trial,
        )  # fmt: skip
        spans, labels = bench.counts[best.passes], bench.labels_right[best.passes]
        columns = (spans.num_right, spans.num_predicted, spans.num_expected)
        np.savez(folder / ANSWERED, spans=np.stack(columns, axis=1), labels=labels)

    stage = context.store.stage(name, inputs, compute, rooms=ROOMS)
    return Artefact(student, stage, read_variants(stage.folder))


class _Bench:
    """Reads the validation texts through exported files, and times them in turn."""

    def __init__(self, gold: GoldTexts, required: BundleRequirements) -> None:
        self.gold, self.required = gold, required
        self.counts: dict[tuple[str, ...], FieldCounts] = {}
        self.labels_right: dict[tuple[str, ...], np.ndarray] = {}

    def measure(self, files: Mapping[tuple[str, ...], Path]) -> list[Variant]:
        gold, required = self.gold, self.required
        sessions = {
            p: load_network(file.read_bytes(), threads=required.threads)
            for p, file in files.items()
        }
        said = dict(zip(sessions, side_by_side(
            lambda session: said_by_file(session, gold.grids)[0], sessions.values(),
            threads=required.threads,
        ), strict=True))  # fmt: skip
        answers = {p: _answers(found, gold) for p, found in said.items()}
        self.counts = {
            p: exact_counts(gold.found(found.tags), gold.spans) for p, found in said.items()
        }
        self.labels_right = {
            p: gold.labelled(found.labels) == gold.labels for p, found in said.items()
        }
        timed = alternate_ms(
            [_caller(session, gold) for session in sessions.values()],
            [document.text for document in gold.documents[:NUM_TIMED]],
        )
        packed = len(gold.teacher.encoder.encoder.packed)
        return [
            Variant(
                passes=passes,
                size_bytes=files[passes].stat().st_size + packed,
                accuracy=quality(self.counts[passes], self.labels_right[passes]),
                agreement=min(
                    float((ours == full).mean())
                    for ours, full in zip(answers[passes], answers[()], strict=True)
                ),
                p50_ms=float(np.percentile(milliseconds, 50)),
                p95_ms=float(np.percentile(milliseconds, 95)),
                retention=_retention(self.counts[()], self.counts[passes], required.confidence),
            )
            for passes, milliseconds in zip(sessions, timed, strict=True)
        ]


def _retention(
    full: FieldCounts, own: FieldCounts, confidence: float
) -> tuple[float, float, float] | None:
    """Of the span F1 in full precision."""
    if not full.num_right.any():
        return None
    kept = retention(full, own, confidence=confidence)
    return kept.value, kept.low, kept.high


def _answers(said: Said, gold: GoldTexts) -> list[np.ndarray]:
    """The tags of all tokens, then the values of each label."""
    return [gold.decoded(said.tags), *gold.labelled(said.labels).T]


def quality(counts: FieldCounts, labels_right: np.ndarray) -> float:
    """Mean of the span F1 and of the accuracy of each label (bool [n, labels])."""
    return float(np.mean([counts.f1, *labels_right.mean(axis=0)]))


def _caller(session: Network, gold: GoldTexts) -> Callable[[Any], object]:
    def call(text: str) -> None:
        ids = np.array([gold.teacher.encoder.encoder.ids(text)], np.int64)
        session.run_all(ids, np.ones_like(ids))

    return call
