"""Stage `transfer`: the texts that students learn from, and what the teacher says to each, once."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Dataset, Encoded
from edgedistill.core.events import Event
from edgedistill.core.files import write_bytes
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.teacher import Teacher
from edgedistill.pipeline.store import StageResult

ROOMS = (
    "data/augmentation",
    "models/teachers",
    "models/inference",
    "tasks",
    "runtime/tokenizer",
    "pipeline/stages/transfer",
)
#: Texts that a killed run may have to read again.
PART = 4096
#: Splits whose teacher outputs (logits and features) are kept beside the transfer set.
OUTPUT_SPLITS = ("validation", "test", "edge_cases")


@dataclass(frozen=True)
class TransferSet:
    """Texts to learn from and the teacher's logits on them; arrays are memory-mapped.

    The first `num_labelled` rows are the training split in its order, the first `num_real` those
    and the unlabelled pool; the rest was made from them.
    """

    stage: StageResult
    texts: Encoded
    logits: np.ndarray
    num_labelled: int
    num_real: int

    @property
    def real_ids(self) -> np.ndarray:
        """Token ids of the texts that people wrote: training rows and unlabelled pool."""
        return np.asarray(self.texts.part(0, self.num_real).ids)

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

        texts = transfer_texts(data.dataset, spec.distillation.augmentation.num_texts, spec.seed)
        encoded = teacher.encoder.encode(texts)
        np.save(folder / "ids.npy", encoded.ids)
        np.save(folder / "starts.npy", encoded.starts)
        model = teacher.load(data.dataset)
        logits = read_in_parts(
            context, model, encoded, folder, pad_id=teacher.encoder.pad_id,
            precision=spec.teacher.precision, stage="transfer",
        )  # fmt: skip
        np.save(folder / "logits.npy", logits)
        for part in folder.glob("part-*.npy"):
            part.unlink()
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
    return TransferSet(stage, encoded, logits, num_labelled, num_real)


def transfer_texts(dataset: Dataset, num_augmented: int, seed: int) -> list[str]:
    """The training texts in order, then the unlabelled pool, then texts made from both."""
    from edgedistill.data.augmentation import augment

    texts = dataset.texts("train")
    real = texts + dataset.texts("unlabelled")
    return real + augment(real, num=num_augmented, seed=seed)


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
