"""Everything measured on the bundle itself: spans, records, abstentions, latency, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.extraction import Document
from edgedistill.evaluate.generation_metrics import FieldCounts
from edgedistill.evaluate.guard_arrays import Outputs
from edgedistill.evaluate.metrics import auroc
from edgedistill.evaluate.report.content import Footprint
from edgedistill.evaluate.span_metrics import (
    LabelledSpan,
    exact_counts,
    f1_gain,
    partial_counts,
    retention,
    whole_records,
)
from edgedistill.evaluate.verdict import Count, FalseAbstention, Measurements
from edgedistill.pipeline.extraction.boundary import FittedBoundary
from edgedistill.pipeline.extraction.labels import label_retentions
from edgedistill.pipeline.extraction.outputs import GoldTexts, said_by_module
from edgedistill.pipeline.extraction.student import Ground, Student
from edgedistill.pipeline.measurement import NUM_TIMED, footprint_of
from edgedistill.pipeline.own_processes import own_processes
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.extraction.answer import Extraction
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.extraction.labels import best_values, read_labels
from edgedistill.runtime.extraction.reading import labelled, read_tags
from edgedistill.runtime.extraction.tagging import document_logits
from edgedistill.runtime.measuring import alternate_ms, distribution_free_upper
from edgedistill.runtime.session import Session

Spans = Sequence[set[LabelledSpan]]


@dataclass(frozen=True)
class Shipped:
    """What the bundle finds in texts, field abstentions and guard apart.

    `answers`: what it would answer were every text in bounds. `outputs`: what its guard reads.
    `uncalibrated`: confidence of every span, text after text, without the temperature. `labels`
    int64 [n, labels]: index of the value of each label.
    """

    spans: Spans
    answers: tuple[Extraction, ...]
    outputs: Outputs
    uncalibrated: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Figures of the bundle on the test split, and what is behind them; by model (shipped, teacher,
    and control where there is one) its `spans`, and which of its labels are right, bool
    [n, labels]."""

    measurements: Measurements
    gold: GoldTexts
    spans: dict[str, Spans]
    labels_right: dict[str, np.ndarray]
    shipped: Shipped
    outside: np.ndarray
    footprint: Footprint
    teacher_footprint: Footprint
    summary: dict[str, Any]

    def counts(self, model: str) -> FieldCounts:
        """Exact spans of a model, by text."""
        return exact_counts(self.spans[model], self.gold.spans)

    def whole(self, model: str) -> np.ndarray:
        """Which texts have exactly the right spans and labels, bool [n]."""
        whole = whole_records(self.spans[model], self.gold.spans)
        return np.asarray(whole & self.labels_right[model].all(axis=1))


def through_bundle(extractor: Extractor, documents: Sequence[Document]) -> Shipped:
    """Ask the bundle for texts that it can read whole.

    The guard does not decide here: what it costs is measured apart, as false abstention.
    """
    spans, answers = list[set[LabelledSpan]](), list[Extraction]()
    profiles, features = list[np.ndarray](), list[np.ndarray]()
    plain, values = list[float](), list[np.ndarray]()
    whole = extractor.settings.whole_words
    for document in documents:
        grid, logits, vector, label_logits = extractor.raw(document.text)
        reading = extractor.read(grid, logits)
        labels = read_labels(extractor.settings.labels, label_logits[0])
        plain += [s.confidence for s in read_tags(grid, logits, whole_words=whole).spans]
        spans.append(labelled(reading.spans, extractor.names))
        answers.append(extractor.answer_of(document.text, reading, 0.0, labels))
        profiles.append(document_logits(logits))
        features.append(vector)
        values.append(label_logits)
    outputs = Outputs(np.concatenate(profiles), np.concatenate(features))
    best = best_values(extractor.settings.labels, np.concatenate(values))
    return Shipped(spans, tuple(answers), outputs, np.array(plain), best)


def measure(
    ground: Ground,
    control: Student | None,
    teacher_file: Path,
    bundle: Path,
    extractor: Extractor,
    fitted: FittedBoundary,
) -> Measured:
    """Score the test split once, through the bundle, and time it against the teacher in turn."""
    rows, required = ground.data.rows, ground.context.spec.requirements
    gold, texts = GoldTexts(rows.test, ground.teacher), rows.texts("test")
    shipped = through_bundle(extractor, rows.test)
    modules = {"teacher": ground.teacher.load()}
    modules |= {"control": control.load()} if control else {}
    said = {name: said_by_module(model, gold) for name, model in modules.items()}
    spans: dict[str, Spans] = {"shipped": shipped.spans}
    spans |= {name: gold.found(found.tags) for name, found in said.items()}
    labels = {"shipped": shipped.labels}
    labels |= {name: gold.labelled(found.labels) for name, found in said.items()}
    labels_right = {name: found == gold.labels for name, found in labels.items()}
    counts = {name: exact_counts(found, gold.spans) for name, found in spans.items()}
    kept = retention(counts["teacher"], counts["shipped"], confidence=required.confidence)
    names = [label.name for label in ground.teacher.encoder.labels]
    labels_kept = label_retentions(names, labels_right, required.confidence)
    first, second = extractor.predict(texts), extractor.predict(texts)
    refused = Count(sum(_is_guarded(answer) for answer in first), len(texts))
    outside, recall = _outside(extractor, rows.outside.get("test", ()))
    size_bytes = open_bundle(bundle).model_bytes
    ours, theirs = _latencies(ground, extractor, teacher_file, texts)
    costs = own_processes(bundle, texts[:64], required)
    footprint = replace(
        footprint_of(size_bytes, *ours, required.confidence),
        throughput_per_s=1000.0 / float(np.mean(ours[0])),
        peak_memory_bytes=costs.peak_memory_bytes,
        cold_starts_ms=costs.cold_starts_ms,
    )
    teacher_size = teacher_file.stat().st_size + len(ground.teacher.encoder.encoder.packed)
    teacher_footprint = footprint_of(teacher_size, *theirs, required.confidence)
    conformal = fitted.guard.conformal
    measurements = Measurements(
        retention=kept,
        size_bytes=size_bytes,
        latency_p95_ms=footprint.latency.p95_ms,
        latency_p95_upper_ms=distribution_free_upper(ours[0], 0.95, required.confidence),
        repeat_agreement=Count(sum(a == b for a, b in zip(first, second, strict=True)), len(texts)),
        batch_agreement=None,
        out_of_bounds_refused=recall,
        false_abstention=FalseAbstention(conformal.rate, conformal.num_rows, refused),
        valid=Count(sum(not a.abstained for a in shipped.answers), len(texts)),
        label_retention=labels_kept,
        peak_memory_bytes=costs.peak_memory_bytes,
        cold_starts_ms=costs.cold_starts_ms,
    )
    inside = fitted.guard.guard.scores(shipped.outputs.logits, shipped.outputs.features)
    summary = {
        "span_f1": {name: c.f1 for name, c in counts.items()},
        "partial_f1": {n: partial_counts(found, gold.spans).f1 for n, found in spans.items()},
        "retention": kept.as_json(),
        "label_accuracy": {
            name: dict(zip(names, right.mean(axis=0).tolist(), strict=True))
            for name, right in labels_right.items()
        },
        "label_retention": {name: found.as_json() for name, found in labels_kept.items()},
        "gain_over_control": f1_gain(
            counts["control"], counts["shipped"], confidence=required.confidence
        ).as_json()
        if control
        else None,
        "size_bytes": size_bytes,
        "teacher_size_bytes": teacher_size,
        "latency": asdict(footprint.latency),
        "teacher_latency": asdict(teacher_footprint.latency),
        "valid": measurements.valid.rate if measurements.valid else None,
        "false_abstention": refused.rate,
        "out_of_bounds_recall": recall.rate if recall else None,
        "out_of_bounds_auroc": auroc(inside, outside) if len(outside) else None,
        "guard_score": fitted.guard.guard.kind,
        "least_confidence": fitted.least_confidence,
        "repeat_agreement": measurements.repeat_agreement.rate,
        "peak_memory_bytes": footprint.peak_memory_bytes,
        "cold_start_ms": float(np.median(costs.cold_starts_ms)),
    }
    measured = Measured(
        measurements, gold, spans, labels_right, shipped, outside, footprint, teacher_footprint,
        summary,
    )  # fmt: skip
    summary["whole_records"] = {name: float(measured.whole(name).mean()) for name in spans}
    return measured


def _is_guarded(answer: Extraction) -> bool:
    """Whether a text was refused as a whole, and not for what its fields lack."""
    return answer.abstained and answer.reason != "missing_field"


def _outside(extractor: Extractor, texts: Sequence[str]) -> tuple[np.ndarray, Count | None]:
    """Scores of out-of-bounds texts, and how many get no record, for whatever reason."""
    if not texts:
        return np.array([]), None
    found = extractor.predict(list(texts))
    # What is refused before it is scored is as far out as can be.
    scores = [f.score if f.score is not None else 1e9 for f in found]
    return np.array(scores), Count(sum(f.abstained for f in found), len(found))


def _latencies(
    ground: Ground, extractor: Extractor, teacher_file: Path, texts: Sequence[str]
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Milliseconds (with, without tokenization) of the bundle and of the teacher, in turn; the
    teacher's without checks, guard and values."""
    session = Session(teacher_file.read_bytes(), threads=ground.context.spec.requirements.threads)
    encoder, whole = ground.teacher.encoder, ground.teacher.whole_words

    def run_teacher(ids: Sequence[int]) -> np.ndarray:
        array = np.array([ids], np.int64)
        return session.run_all(array, np.ones_like(array))[0]

    def by_teacher(text: str) -> object:
        grid = encoder.grid(text)
        logits = run_teacher(grid.ids.tolist())[0][grid.is_content]
        return read_tags(grid, logits, whole_words=whole)

    rng = np.random.default_rng(ground.context.spec.seed)
    chosen = [texts[i] for i in rng.permutation(len(texts))[:NUM_TIMED]]
    rounds = max(2, -(-2 * NUM_TIMED // len(chosen) // 2))
    with_tokens = alternate_ms([lambda t: extractor.predict([t]), by_teacher], chosen,
                               rounds=rounds)  # fmt: skip
    tokens = {text: encoder.encoder.ids(text) for text in chosen}
    without = alternate_ms(
        [lambda t: extractor.model.run_all(tokens[t]), lambda t: run_teacher(tokens[t])],
        chosen, rounds=1,
    )  # fmt: skip
    return (with_tokens[0], without[0]), (with_tokens[1], without[1])
