"""Stage `transfer`: the texts that students learn from, and what the teacher says to each, once."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Dataset, Encoded
from edgedistill.core.events import Event
from edgedistill.core.files import read_json, write_bytes, write_json
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.made_texts import TextMaker, keep_unfooled
from edgedistill.pipeline.stages.teacher import Teacher
from edgedistill.pipeline.store import StageResult

ROOMS = (
    "data/admission",
    "data/adversarial",
    "data/augmentation",
    "data/duplicates",
    "data/edge_cases",
    "data/framing",
    "models/teachers",
    "models/inference",
    "models/word_neighbours",
    "tasks",
    "runtime/tokenizer",
    "pipeline/stages/made_texts",
    "pipeline/stages/transfer",
)
#: Texts that a killed run may have to read again.
PART = 4096
#: What is kept: the texts themselves, and how many of them were made, by kind.
TEXTS, MADE = "texts.json", "made.json"
#: Where the parts of the two readings lie until they are whole.
FIRST, SECOND = "first", "second"
#: Splits whose teacher outputs (logits and features) are kept beside the transfer set.
OUTPUT_SPLITS = ("validation", "test", "edge_cases")


@dataclass(frozen=True)
class TransferSet:
    """Texts to learn from and the teacher's logits on them; arrays are memory-mapped.

    The first `num_labelled` rows are the training split in its order, the first `num_real` those
    and the unlabelled pool; the rest was made from them. `made`: how many of each kind, in the
    order of the rows.
    """

    stage: StageResult
    texts: Encoded
    logits: np.ndarray
    num_labelled: int
    num_real: int
    made: dict[str, int]

    @property
    def real_ids(self) -> np.ndarray:
        """Token ids of the texts that people wrote: training rows and unlabelled pool."""
        return np.asarray(self.texts.part(0, self.num_real).ids)

    @cached_property
    def as_written(self) -> list[str]:
        """The texts themselves."""
        texts: list[str] = read_json(self.stage.folder / TEXTS)
        return texts

    def outputs(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The teacher's (logits, features) on a split, float32."""
        folder = self.stage.folder
        return (
            np.load(folder / f"{split}.logits.npy"),
            np.load(folder / f"{split}.features.npy"),
        )


def prepare_transfer(context: Context, data: PreparedData, teacher: Teacher) -> TransferSet:
    """Training texts, unlabelled pool and augmentation, labelled by the teacher once."""
    spec = context.spec
    inputs = {
        "data": data.stage.fingerprint,
        "teacher": teacher.stage.fingerprint,
        "augmentation": spec.distillation.augmentation.model_dump(mode="json"),
        "seed": spec.seed,
    }

    def compute(folder: Path) -> None:
        from edgedistill.models.inference import model_outputs

        model = teacher.load(data.dataset)
        texts, logits, made = _make_and_read(context, data, teacher, model, folder)
        encoded = teacher.encoder.encode(texts)
        np.save(folder / "ids.npy", encoded.ids)
        np.save(folder / "starts.npy", encoded.starts)
        np.save(folder / "logits.npy", logits)
        write_json(folder / TEXTS, texts)
        write_json(folder / MADE, made)
        for name in (FIRST, SECOND):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name, split in _splits(data.dataset).items():
            texts_of_split = teacher.encoder.encode(split)
            outputs = model_outputs(model, texts_of_split, pad_id=teacher.encoder.pad_id)
            split_logits, features = outputs
            np.save(folder / f"{name}.logits.npy", split_logits)
            np.save(folder / f"{name}.features.npy", features)

    stage = context.store.stage("transfer", inputs, compute, rooms=ROOMS)
    encoded = Encoded(
        np.load(stage.folder / "ids.npy", mmap_mode="r"),
        np.load(stage.folder / "starts.npy", mmap_mode="r"),
    )
    logits = np.load(stage.folder / "logits.npy", mmap_mode="r")
    num_labelled = len(data.dataset.train)
    num_real = num_labelled + len(data.dataset.unlabelled)
    made = read_json(stage.folder / MADE)
    return TransferSet(stage, encoded, logits, num_labelled, num_real, made)


def _make_and_read(
    context: Context, data: PreparedData, teacher: Teacher, model: Any, folder: Path
) -> tuple[list[str], np.ndarray, dict[str, int]]:
    """All texts, what the teacher answers, and how many were made of each kind.

    In two readings: some texts are made of answers, and kept by them.
    """

    def read(texts: Sequence[str], name: str) -> np.ndarray:
        (folder / name).mkdir(exist_ok=True)
        return read_in_parts(
            context, model, teacher.encoder.encode(texts), folder / name,
            pad_id=teacher.encoder.pad_id, precision=context.spec.teacher.precision,
            stage="transfer",
        )  # fmt: skip

    maker = TextMaker(context.spec, data.dataset, teacher.encoder)
    unread = maker.unread()
    texts = [*maker.real, *(text for made in unread.values() for text in made)]
    logits = read(texts, FIRST)
    edits = maker.read(logits[: len(maker.real)], model.encoder.get_input_embeddings().weight)
    kept: dict[str, list[str]] = {kind: [] for kind in edits}
    if tried := [edit.text for each in edits.values() for edit in each]:
        answered = read(tried, SECOND)
        kept, rows = keep_unfooled(edits, answered, np.argmax(logits, axis=1))
        logits = np.concatenate([logits, answered[rows]])
        texts += [text for each in kept.values() for text in each]
    return texts, logits, {kind: len(each) for kind, each in (unread | kept).items()}


def read_in_parts(
    context: Context,
    model: Any,
    texts: Encoded,
    folder: Path,
    *,
    pad_id: int,
    precision: str,
    stage: str,
) -> np.ndarray:
    """A teacher's logits, float16 [n, classes]; each part is kept as soon as it is read.

    Half precision: 10 bits of mantissa are finer than the teacher's own noise. It reads them in
    the arithmetic it was trained in; the splits, on which it is judged, always in fp32.
    """
    from edgedistill.models.inference import model_outputs

    message = f"the teacher reads {len(texts):,} texts"
    parts = []
    for start in range(0, len(texts), PART):
        file = folder / f"part-{start}.npy"
        if not file.exists():
            some = texts.part(start, min(start + PART, len(texts)))
            logits, _ = model_outputs(model, some, pad_id=pad_id, precision=precision)
            stream = io.BytesIO()
            np.save(stream, np.clip(logits, -6e4, 6e4).astype(np.float16))
            write_bytes(file, stream.getvalue())
        parts.append(file)
        done = min(1.0, (start + PART) / len(texts))
        context.listener(Event(stage, "progress", message, done))
    return np.concatenate([np.load(part) for part in parts])


def _splits(dataset: Dataset) -> dict[str, list[str]]:
    splits = {name: dataset.texts(name) for name in OUTPUT_SPLITS}
    for name, examples in dataset.out_of_bounds.items():
        splits[f"out_of_bounds_{name}"] = [example.text for example in examples]
    return {name: texts for name, texts in splits.items() if texts}
