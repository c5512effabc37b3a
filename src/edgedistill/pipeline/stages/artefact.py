"""Stage `artefact`: export a student, try the compression passes, keep the one that pays.

Every variant is the file that would ship, read through the runtime that would run it, and
measured on validation only.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgedistill.compress.passes import ROUND_AS_THEY_RUN, SEQUENCES
from edgedistill.compress.sequence import apply_passes
from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import Event
from edgedistill.core.files import write_json
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.own_processes import file_memory
from edgedistill.pipeline.stages.awareness import export_aware
from edgedistill.pipeline.stages.bounds import bytes_by_pass, paired_retention
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.other_runtimes import litert_files, only_other
from edgedistill.pipeline.stages.side_by_side import side_by_side
from edgedistill.pipeline.stages.student import TrainedStudent, load_student
from edgedistill.pipeline.stages.teacher import Teacher
from edgedistill.pipeline.stages.variants import (
    VARIANTS,
    Variant,
    as_asked,
    asked_passes,
    asked_settings,
    choose_variant,
    is_litert,
    read_variants,
    serves,
    smallest_of,
)
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.manifest import LITERT_MODEL, MODEL
from edgedistill.runtime.measuring import alternate_ms
from edgedistill.runtime.networks import Network, load_network
from edgedistill.tasks.classification import predicted

FULL = "full.onnx"
RIGHT = "validation_right.npy"
NUM_CALIBRATION = 256
ROOMS = (
    "export", "compress", "train", "models", "runtime", "pipeline/stages", "evaluate/intervals",
)  # fmt: skip
NUM_TIMED = 300


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
        """How the runtime may batch: no batch-mate may change an answer, and LiteRT's shapes are
        of one text."""
        passes = self.chosen.passes
        alone = not ROUND_AS_THEY_RUN.isdisjoint(passes) or is_litert(passes)
        return "single" if alone else "padded"

    @property
    def model(self) -> Path:
        """The compressed file, in the runtime that it is for."""
        return kept_file(self.stage.folder)

    @property
    def full(self) -> Path:
        """The full-precision export it was made from."""
        return self.stage.folder / FULL


def make_artefact(ground: Ground, student: TrainedStudent, *, is_trial: bool = False) -> Artefact:
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

        model = load_student(ground, student)
        OnnxExporter().write(model, to=folder / FULL)
        bench = _Bench(context, ground.data, teacher)
        calibration = calibration_inputs(
            ground.transfer.texts, ground.transfer.num_labelled, teacher.encoder.pad_id
        )
        trained = export_aware(ground, model, name, folder)
        best = compress_and_keep(
            context, name, folder, calibration, bench.measure, teacher.encoder.packed, trained,
            litert_files(context, name, model, folder, calibration, teacher.encoder.max_tokens),
            is_trial=is_trial,
        )  # fmt: skip
        np.save(folder / RIGHT, bench.right[best.passes])

    stage = context.store.stage(name, inputs, compute, rooms=ROOMS)
    variants = read_variants(stage.folder)
    return Artefact(student, stage, next(v for v in variants if v.kept), variants)


def compress_and_keep(
    context: Context[Any],
    name: str,
    folder: Path,
    calibration: Sequence[Mapping[str, np.ndarray]],
    measure: Callable[[Mapping[tuple[str, ...], Path]], list[Variant]],
    tokenizer: bytes,
    trained: tuple[str, Path] | None = None,
    others: Mapping[tuple[str, ...], Path] = MappingProxyType({}),
    *,
    is_trial: bool = False,
) -> Variant:
    """Make the passes that the task asks for of the export in `folder`, or try every sequence;
    what is kept stays beside it.

    Args:
        name: of the stage, for those who listen.
        measure: of the files by their passes, full precision first.
        tokenizer: as packed in the bundle.
        trained: by what the student was trained on for the passes, where it was, and its export.
        others: files for another runtime, by what was done to them.
        is_trial: the other files go unmeasured where the smallest serves.

    Raises:
        CannotApply: a pass that the task asks for has nothing to do on this student.
    """
    asked, required = asked_passes(context.spec), context.spec.requirements
    asked_at = context.spec.compress.asked_at if asked else ()
    source, before = (trained[1], trained[:1]) if trained else (folder / FULL, ())
    files: dict[tuple[str, ...], Path] = {(): folder / FULL}
    steps: dict[tuple[str, ...], Sequence[Path]] = {(): ()}
    sequences = () if only_other(context.spec) else SEQUENCES
    for passes in (asked,) if asked else sequences:
        made = apply_passes(passes, source, folder, calibration, asked_at=asked_at)
        for left, reason in made.left_out.items():
            note = f"{' + '.join(passes)}: {left} left out: {reason}"
            context.listener(Event(name, "note", note))
        applied = (*before, *made.passes)
        files.setdefault(applied, made.file)
        steps.setdefault(applied, (*(trained[1:] if trained else ()), *made.steps))
    files |= others
    steps |= {passes: (file,) for passes, file in others.items()}

    def judge(some: Mapping[tuple[str, ...], Path]) -> list[Variant]:
        memory = file_memory(some, tokenizer, calibration, required)
        measured = [
            replace(
                variant,
                bytes_by_pass=bytes_by_pass(
                    variant.size_bytes, files[variant.passes], steps[variant.passes]
                ),
                peak_memory_bytes=memory.get(variant.passes),
            )
            for variant in measure(some)
        ]
        if asked:
            return as_asked(measured)
        return choose_variant(measured, required, only_litert=only_other(context.spec))

    # Of files for another runtime alone, only full precision is sure to be near enough.
    is_short = is_trial and not only_other(context.spec)
    chosen = judge(smallest_of(files, len(tokenizer)) if is_short else files)
    if is_short and not serves(chosen, required):
        chosen = judge(files)
    for variant in chosen:
        note = "kept" if variant.kept else f"declined: {variant.reason}"
        label = " + ".join(variant.passes) or "full precision"
        context.listener(Event(name, "note", f"{label} {note}"))
    best = next(v for v in chosen if v.kept)
    kept = folder / (LITERT_MODEL if is_litert(best.passes) else MODEL)
    shutil.copyfile(files[best.passes], kept)
    for file in [*folder.glob("*.onnx"), *folder.glob("*.tflite")]:
        if file.name not in (FULL, kept.name):
            file.unlink()
    write_json(folder / VARIANTS, [asdict(v) for v in chosen])
    return best


def kept_file(folder: Path) -> Path:
    """The file that `compress_and_keep` kept."""
    return next(folder / name for name in (LITERT_MODEL, MODEL) if (folder / name).exists())


class _Bench:
    """Reads the validation split through exported files, and times them in turn."""

    def __init__(self, context: Context, data: PreparedData, teacher: Teacher) -> None:
        self.threads = context.spec.requirements.threads
        self.confidence = context.spec.requirements.confidence
        self.texts = data.dataset.texts("validation")
        self.encoder = teacher.encoder
        self.encoded = self.encoder.encode(self.texts)
        self.targets = data.dataset.targets("validation")
        self.right: dict[tuple[str, ...], np.ndarray] = {}

    def measure(self, files: Mapping[tuple[str, ...], Path]) -> list[Variant]:
        sessions = {
            passes: load_network(file.read_bytes(), threads=self.threads)
            for passes, file in files.items()
        }
        outputs = side_by_side(
            partial(single_outputs, texts=self.encoded), sessions.values(), threads=self.threads
        )
        answers = {
            passes: predicted(logits)
            for passes, (logits, _) in zip(sessions, outputs, strict=True)
        }  # fmt: skip
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
                retention=paired_retention(self.right[()], self.right[passes], self.confidence),
            )
            for passes, milliseconds in zip(sessions, timed, strict=True)
        ]

    def _caller(self, session: Network) -> Any:
        def call(text: str) -> None:
            ids = np.array([self.encoder.ids(text)], np.int64)
            session.run(ids, np.ones_like(ids))

        return call


def single_outputs(session: Network, texts: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """(logits, features) with one text a call and no padding: what the runtime does."""
    outputs = []
    for row in range(len(texts)):
        ids = texts.ids[None, texts.starts[row] : texts.starts[row + 1]].astype(np.int64)
        outputs.append(session.run(ids, np.ones_like(ids)))
    logits, features = (np.concatenate(part) for part in zip(*outputs, strict=True))
    return logits, features


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
