"""Everything measured on the bundle itself: test answers, agreement, latency, memory, bytes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.guard_arrays import Outputs
from edgedistill.evaluate.guard_fit import FittedGuard
from edgedistill.evaluate.intervals import retention_interval
from edgedistill.evaluate.metrics import accuracy, auroc, macro_f1
from edgedistill.evaluate.report.content import Footprint, Latency
from edgedistill.evaluate.verdict import Count, FalseAbstention, Measurements
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.evidence import file_logits
from edgedistill.pipeline.own_processes import own_processes
from edgedistill.pipeline.stages.artefact import Artefact
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.teacher import Teacher
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.measuring import alternate_ms, distribution_free_upper
from edgedistill.runtime.session import Session
from edgedistill.runtime.text_model import TextModel
from edgedistill.runtime.tokenizer import Tokenizer
from edgedistill.tasks.classification import predicted

NUM_TIMED = 1000
NUM_AGREEMENT = 2000
BATCH = 32


@dataclass(frozen=True)
class Measured:
    """Figures of the bundle on the test split, and the arrays behind them."""

    measurements: Measurements
    retention: Interval
    targets: np.ndarray
    answers: np.ndarray
    teacher_answers: np.ndarray
    outputs: Outputs
    outside: Outputs | None
    footprint: Footprint
    teacher_footprint: Footprint
    summary: dict[str, Any]


def measure(
    ground: Ground,
    artefact: Artefact,
    teacher_file: Path,
    bundle: Path,
    classifier: Classifier,
    fitted: FittedGuard,
) -> Measured:
    """Score the test split once, through the bundle, and time it against the teacher in turn."""
    context, dataset = ground.context, ground.data.dataset
    required, teacher = context.spec.requirements, ground.teacher
    texts, targets = dataset.texts("test"), dataset.targets("test")
    outputs = Outputs(*classifier.raw(texts))
    answers = predicted(outputs.logits)
    exported = file_logits(artefact.full.read_bytes(), texts, teacher)
    teacher_answers = predicted(ground.transfer.outputs("test")[0])
    retention = retention_interval(
        teacher_answers == targets, answers == targets, confidence=required.confidence
    )
    outside_texts = [e.text for e in dataset.out_of_bounds.get("test", ())]
    outside = Outputs(*classifier.raw(outside_texts)) if outside_texts else None
    refused = _refused(classifier, texts)
    outside_refused = _refused(classifier, outside_texts) if outside_texts else None
    size_bytes = open_bundle(bundle).model_bytes
    ours, theirs = _latencies(context, teacher, teacher_file, classifier, texts)
    costs = own_processes(bundle, texts[:64], required)
    footprint = footprint_of(size_bytes, *ours, required.confidence)
    footprint = Footprint(**(vars(footprint) | {
        "throughput_per_s": 1000.0 / float(np.mean(ours[0])),
        "peak_memory_bytes": costs.peak_memory_bytes,
        "cold_starts_ms": costs.cold_starts_ms,
    }))  # fmt: skip
    teacher_size = teacher_file.stat().st_size + len(teacher.encoder.packed)
    batch_agreement = _batch_agreement(classifier, texts[:NUM_AGREEMENT])
    measurements = Measurements(
        retention=retention,
        size_bytes=size_bytes,
        latency_p95_ms=footprint.latency.p95_ms,
        latency_p95_upper_ms=distribution_free_upper(ours[0], 0.95, required.confidence),
        repeat_agreement=_repeat_agreement(classifier, texts, outputs),
        batch_agreement=batch_agreement,
        out_of_bounds_refused=outside_refused,
        false_abstention=FalseAbstention(fitted.conformal.rate, fitted.conformal.num_rows, refused),
        peak_memory_bytes=costs.peak_memory_bytes,
        cold_starts_ms=costs.cold_starts_ms,
    )
    summary = {
        "accuracy": accuracy(targets, answers),
        "macro_f1": macro_f1(targets, answers, len(dataset.labels)),
        "teacher_accuracy": accuracy(targets, teacher_answers),
        "retention": retention.as_json(),
        "size_bytes": size_bytes,
        "latency": asdict(footprint.latency),
        "teacher_latency": asdict(footprint_of(teacher_size, *theirs, required.confidence).latency),
        "speed_up_p50": float(np.median(theirs[0]) / np.median(ours[0])),
        "out_of_bounds_auroc": _auroc(fitted, outputs, outside) if outside else None,
        "false_abstention": refused.rate,
        "out_of_bounds_recall": outside_refused.rate if outside_refused else None,
        "export_agreement": float((predicted(exported) == answers).mean()),
        "guard_score": fitted.guard.kind,
        "passes": " + ".join(artefact.chosen.passes) or "none",
        "repeat_agreement": measurements.repeat_agreement.rate,
        "batch_agreement": batch_agreement.rate,
        "peak_memory_bytes": footprint.peak_memory_bytes,
        "cold_start_ms": float(np.median(costs.cold_starts_ms)),
    }
    return Measured(
        measurements, retention, targets, answers, teacher_answers, outputs, outside, footprint,
        footprint_of(teacher_size, *theirs, required.confidence), summary,
    )  # fmt: skip


def _latencies(
    context: Context, teacher: Teacher, teacher_file: Path, classifier: Classifier,
    texts: list[str],
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Milliseconds (with, without tokenization) of the bundle and of the teacher, in turn."""
    limits = context.spec.input
    peer = TextModel(
        Session(teacher_file.read_bytes(), threads=context.spec.requirements.threads),
        Tokenizer(teacher.encoder.packed),
        batching="single", pad_id=teacher.encoder.pad_id, max_tokens=limits.max_tokens,
    )  # fmt: skip
    rng = np.random.default_rng(context.spec.seed)
    chosen = [texts[i] for i in rng.permutation(len(texts))[:NUM_TIMED]]
    rounds = max(2, -(-2 * NUM_TIMED // len(chosen) // 2))
    with_tokens = alternate_ms(
        [lambda t: classifier.predict([t]), lambda t: peer.raw([t])], chosen, rounds=rounds
    )
    tokens = {text: teacher.encoder.ids(text)[: limits.max_tokens] for text in chosen}
    without = alternate_ms(
        [lambda t: classifier.model.run_one(tokens[t]), lambda t: peer.run_one(tokens[t])],
        chosen, rounds=1,
    )  # fmt: skip
    return (with_tokens[0], without[0]), (with_tokens[1], without[1])


def footprint_of(
    size_bytes: int, samples: np.ndarray, model_samples: np.ndarray, confidence: float
) -> Footprint:
    """What a model costs, of its bytes and its milliseconds with and without tokenization."""
    return Footprint(
        size_bytes=size_bytes,
        latency=_latency(samples, confidence),
        model_latency=_latency(model_samples, confidence),
        samples_ms=tuple(float(f"{s:.4g}") for s in samples[:3000]),
    )


def _latency(samples: np.ndarray, confidence: float) -> Latency:
    p50, p95, p99 = (float(q) for q in np.percentile(samples, [50, 95, 99]))
    upper = distribution_free_upper(samples, 0.95, confidence)
    return Latency(p50, p95, p99, upper if math.isfinite(upper) else None)


def _repeat_agreement(classifier: Classifier, texts: list[str], before: Outputs) -> Count:
    """Rows whose logits are the same to the bit when asked again."""
    again = classifier.raw(texts)[0]
    return Count(int((again == before.logits).all(axis=1).sum()), len(texts))


def _batch_agreement(classifier: Classifier, texts: list[str]) -> Count:
    """Rows whose label is the same alone and among BATCH others."""
    alone = np.concatenate([predicted(classifier.raw([text])[0]) for text in texts])
    together = np.concatenate([
        predicted(classifier.raw(texts[start : start + BATCH])[0])
        for start in range(0, len(texts), BATCH)
    ])  # fmt: skip
    return Count(int((alone == together).sum()), len(texts))


def _refused(classifier: Classifier, texts: list[str]) -> Count:
    """Texts that the bundle does not answer, for whatever reason."""
    return Count(sum(p.abstained for p in classifier.predict(texts)), len(texts))


def _auroc(fitted: FittedGuard, inside: Outputs, outside: Outputs) -> float:
    guard = fitted.guard
    return auroc(
        guard.scores(inside.logits, inside.features),
        guard.scores(outside.logits, outside.features),
    )
