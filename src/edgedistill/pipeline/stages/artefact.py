"""Stage `artefact`: export a student, try the compression passes, keep the one that pays.

Every variant is the file that would ship, read through the runtime that would run it, and
measured on validation only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.compress.passes import PASSES, SEQUENCES
from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import Event
from edgedistill.core.files import read_json, write_json
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.student import TrainedStudent, load_student
from edgedistill.pipeline.stages.teacher import Teacher
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.measuring import alternate_ms
from edgedistill.runtime.session import Session
from edgedistill.tasks.classification import predicted

FULL = "full.onnx"
MODEL = "model.onnx"
RIGHT = "validation_right.npy"
VARIANTS = "variants.json"
NUM_CALIBRATION = 256
NUM_TIMED = 300
#: A pass may cost this share of the validation answers against full precision.
MOST_LOST_ACCURACY = 0.003
LEAST_AGREEMENT = 0.985
SAME_SIZE = 1.03
SAME_TIME = 1.15


@dataclass(frozen=True)
class Variant:
    """One sequence of passes, measured on validation. `size_bytes`: model and tokenizer."""

    passes: tuple[str, ...]
    size_bytes: int
    accuracy: float
    agreement: float
    p50_ms: float
    p95_ms: float
    kept: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Artefact:
    """The file that would ship for one student, and what was tried on the way."""

    student: TrainedStudent
    stage: StageResult
    chosen: Variant
    variants: tuple[Variant, ...]

    @property
    def validation_right(self) -> np.ndarray:
        """Which validation rows the file gets right, bool [num_validation]."""
        return np.asarray(np.load(self.stage.folder / RIGHT))

    @property
    def batching(self) -> str:
        """How the runtime may batch: dynamic scales let batch-mates change an answer."""
        return "single" if "dynamic_int8" in self.chosen.passes else "padded"

    @property
    def model(self) -> Path:
        """The compressed ONNX file."""
        return self.stage.folder / MODEL

    @property
    def full(self) -> Path:
        """The full-precision export it was made from."""
        return self.stage.folder / FULL


def make_artefact(ground: Ground, student: TrainedStudent) -> Artefact:
    """Export, compress, measure, choose."""
    context, teacher = ground.context, ground.teacher
    required, compress = context.spec.requirements, context.spec.compress
    limits = {"size_mb": required.size_mb, "p95_ms": required.latency_p95_ms}
    inputs: dict[str, Any] = {
        "student": student.stage.fingerprint, "threads": required.threads, "limits": limits,
    }  # fmt: skip
    sequences = SEQUENCES
    if compress and compress.file_passes:
        sequences = ((), compress.file_passes)
        inputs["passes"] = compress.file_passes
    name = student.stage.name.replace("student-", "artefact-")

    def compute(folder: Path) -> None:
        from edgedistill.export.onnx import OnnxExporter

        model = load_student(ground, student)
        OnnxExporter().write(model, to=folder / FULL)
        bench = _Bench(context, ground.data, teacher)
        calibration = calibration_inputs(
            ground.transfer.texts, ground.transfer.num_labelled, teacher.encoder.pad_id
        )
        best = compress_and_keep(context, name, folder, calibration, bench.measure, sequences)
        np.save(folder / RIGHT, bench.right[best.passes])

    stage = context.store.stage(
        name, inputs, compute, rooms=("export", "compress", "models", "runtime", "pipeline/stages")
    )
    variants = read_variants(stage.folder)
    return Artefact(student, stage, next(v for v in variants if v.kept), variants)


def compress_and_keep(
    context: Context[Any],
    name: str,
    folder: Path,
    calibration: Sequence[Mapping[str, np.ndarray]],
    measure: Callable[[Mapping[tuple[str, ...], Path]], list[Variant]],
    sequences: Sequence[tuple[str, ...]] = SEQUENCES,
) -> Variant:
    """Try every sequence of passes on the export in `folder`; what pays stays beside it.

    Args:
        name: of the stage, for those who listen.
        measure: of the files by their passes, full precision first.
    """
    files = {passes: _apply(passes, folder / FULL, folder, calibration) for passes in sequences}
    chosen = choose_variant(measure(files), context.spec.requirements)
    for variant in chosen:
        note = "kept" if variant.kept else f"declined: {variant.reason}"
        label = " + ".join(variant.passes) or "full precision"
        context.listener(Event(name, "note", f"{label} {note}"))
    best = next(v for v in chosen if v.kept)
    shutil.copyfile(files[best.passes], folder / MODEL)
    for file in folder.glob("*.onnx"):
        if file.name not in (FULL, MODEL):
            file.unlink()
    write_json(folder / VARIANTS, [asdict(v) for v in chosen])
    return best


def read_variants(folder: Path) -> tuple[Variant, ...]:
    """What `compress_and_keep` tried."""
    rows = read_json(folder / VARIANTS)
    return tuple(Variant(**{**row, "passes": tuple(row["passes"])}) for row in rows)


def choose_variant(variants: Sequence[Variant], required: Any) -> list[Variant]:
    """Mark the one to keep and give every other one its reason.

    Of those that lose no more than MOST_LOST_ACCURACY against full precision: first those within
    size and latency, then the smallest. Sizes within 3 % and times within 15 % of each other count
    as equal (a machine's noise is no reason): there the one nearest to full precision wins.
    """
    full = variants[0]
    sound = [
        v for v in variants
        if v.accuracy >= full.accuracy - MOST_LOST_ACCURACY and v.agreement >= LEAST_AGREEMENT
    ]  # fmt: skip

    def within(v: Variant) -> bool:
        size_ok = required.size_mb is None or v.size_bytes <= required.size_mb * 1e6
        p95 = required.latency_p95_ms
        return size_ok and (p95 is None or v.p95_ms <= p95)

    pool = [v for v in sound if within(v)] or sound
    smallest = min(v.size_bytes for v in pool)
    small = [v for v in pool if v.size_bytes <= SAME_SIZE * smallest]
    fastest = min(v.p50_ms for v in small)
    quick = [v for v in small if v.p50_ms <= SAME_TIME * fastest]
    best = max(quick, key=lambda v: (v.agreement, -v.p50_ms))
    return [_judged(v, v is best, v in sound, full, best, within(v)) for v in variants]


def _judged(
    v: Variant, kept: bool, sound: bool, full: Variant, best: Variant, within: bool
) -> Variant:
    values = asdict(v) | {"passes": v.passes, "kept": kept}
    if kept:
        return Variant(**values)
    if not sound:
        reason = (
            f"costs quality: accuracy {full.accuracy:.4f} → {v.accuracy:.4f}, "
            f"{1 - v.agreement:.1%} of the answers change"
        )
    elif not within:
        reason = (
            f"over the size or latency asked for ({v.size_bytes / 1e6:.2f} MB, {v.p95_ms:.2f} ms)"
        )
    elif v.size_bytes > SAME_SIZE * best.size_bytes:
        reason = (
            f"does not pay: {v.size_bytes / 1e6:.2f} MB where {best.size_bytes / 1e6:.2f} MB "
            "serve as well"
        )
    elif v.p50_ms > SAME_TIME * best.p50_ms:
        reason = f"does not pay: p50 {v.p50_ms:.3f} ms where {best.p50_ms:.3f} ms serve as well"
    else:
        reason = (
            f"does not pay: no smaller or faster, {1 - v.agreement:.2%} of the answers change "
            f"instead of {1 - best.agreement:.2%}"
        )
    return Variant(**(values | {"reason": reason}))


class _Bench:
    """Reads the validation split through exported files, and times them in turn."""

    def __init__(self, context: Context, data: PreparedData, teacher: Teacher) -> None:
        self.threads = context.spec.requirements.threads
        self.texts = data.dataset.texts("validation")
        self.encoder = teacher.encoder
        self.encoded = self.encoder.encode(self.texts)
        self.targets = data.dataset.targets("validation")
        self.right: dict[tuple[str, ...], np.ndarray] = {}

    def measure(self, files: Mapping[tuple[str, ...], Path]) -> list[Variant]:
        sessions = {
            passes: Session(file.read_bytes(), threads=self.threads)
            for passes, file in files.items()
        }
        answers = {passes: predicted(single_outputs(s, self.encoded)[0]) for passes, s in
                   sessions.items()}  # fmt: skip
        timed = alternate_ms(
            [self._caller(session) for session in sessions.values()], self.texts[:NUM_TIMED]
        )
        self.right = {passes: labels == self.targets for passes, labels in answers.items()}
        reference = answers[()]
        return [
            Variant(
                passes=passes,
                size_bytes=files[passes].stat().st_size + len(self.encoder.packed),
                accuracy=float(self.right[passes].mean()),
                agreement=float((answers[passes] == reference).mean()),
                p50_ms=float(np.percentile(milliseconds, 50)),
                p95_ms=float(np.percentile(milliseconds, 95)),
            )
            for passes, milliseconds in zip(sessions, timed, strict=True)
        ]

    def _caller(self, session: Session) -> Any:
        def call(text: str) -> None:
            ids = np.array([self.encoder.ids(text)], np.int64)
            session.run(ids, np.ones_like(ids))

        return call


def single_outputs(session: Session, texts: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """(logits, features) with one text a call and no padding: what the runtime does."""
    outputs = []
    for row in range(len(texts)):
        ids = texts.ids[None, texts.starts[row] : texts.starts[row + 1]].astype(np.int64)
        outputs.append(session.run(ids, np.ones_like(ids)))
    logits, features = (np.concatenate(part) for part in zip(*outputs, strict=True))
    return logits, features


def _apply(
    passes: tuple[str, ...], full: Path, folder: Path, calibration: Sequence[Mapping[str, Any]]
) -> Path:
    current = full
    for index, name in enumerate(passes):
        target = folder / f"{'-'.join(passes[: index + 1])}.onnx"
        current = PASSES.load(name)()(current, to=target, calibration=calibration)
    return current


def calibration_inputs(
    texts: Encoded, num_labelled: int, pad_id: int
) -> list[Mapping[str, np.ndarray]]:
    """Training texts, the first `num_labelled`, spread evenly over their order, as inputs of the
    graph."""
    num = min(NUM_CALIBRATION, num_labelled)
    rows = np.linspace(0, num_labelled - 1, num).astype(int)
    inputs: list[Mapping[str, np.ndarray]] = []
    for row in rows:
        ids, mask = texts.padded(np.array([row]), pad_id)
        inputs.append({"input_ids": ids, "attention_mask": mask})
    return inputs
