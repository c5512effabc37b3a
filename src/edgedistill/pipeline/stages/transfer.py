"""Stage `transfer`: the texts that students learn from, and what the teacher says to each, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Dataset, Encoded
from edgedistill.core.events import Event
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.teacher import Teacher
from edgedistill.pipeline.store import StageResult

#: Splits whose teacher outputs (logits and features) are kept beside the transfer set.
OUTPUT_SPLITS = ("validation", "test", "edge_cases")


@dataclass(frozen=True)
class TransferSet:
    """Texts to learn from and the teacher's logits on them; arrays are memory-mapped.

    The first `num_labelled` rows are the training split in its order.
    """

    stage: StageResult
    texts: Encoded
    logits: np.ndarray
    num_labelled: int

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
        texts = transfer_texts(data.dataset, spec.distillation.augmentation.num_texts, spec.seed)
        encoded = teacher.encoder.encode(texts)
        np.save(folder / "ids.npy", encoded.ids)
        np.save(folder / "starts.npy", encoded.starts)
        model = teacher.load(data.dataset)
        logits, _ = _outputs(context, model, encoded, teacher.encoder.pad_id)
        # Half precision: 10 bits of mantissa are finer than the teacher's own noise.
        np.save(folder / "logits.npy", np.clip(logits, -6e4, 6e4).astype(np.float16))
        for name, split in _splits(data.dataset).items():
            part = teacher.encoder.encode(split)
            logits, features = _outputs(context, model, part, teacher.encoder.pad_id)
            np.save(folder / f"{name}.logits.npy", logits)
            np.save(folder / f"{name}.features.npy", features)

    stage = context.store.stage(
        "transfer", inputs, compute, rooms=("data", "models/teachers", "models/inference", "tasks")
    )
    encoded = Encoded(
        np.load(stage.folder / "ids.npy", mmap_mode="r"),
        np.load(stage.folder / "starts.npy", mmap_mode="r"),
    )
    logits = np.load(stage.folder / "logits.npy", mmap_mode="r")
    return TransferSet(stage, encoded, logits, len(data.dataset.train))


def transfer_texts(dataset: Dataset, num_augmented: int, seed: int) -> list[str]:
    """The training texts in order, then the unlabelled pool, then texts made from both."""
    from edgedistill.data.augmentation import augment

    texts = dataset.texts("train")
    real = texts + dataset.texts("unlabelled")
    return real + augment(real, num=num_augmented, seed=seed)


def _outputs(context: Context, model: Any, texts: Encoded, pad_id: int) -> Any:
    from edgedistill.models.inference import model_outputs

    def progress(fraction: float) -> None:
        message = f"the teacher reads {len(texts):,} texts"
        context.listener(Event("transfer", "progress", message, fraction))

    return model_outputs(model, texts, pad_id=pad_id, progress=progress)


def _splits(dataset: Dataset) -> dict[str, list[str]]:
    splits = {name: dataset.texts(name) for name in OUTPUT_SPLITS}
    for name, examples in dataset.out_of_bounds.items():
        splits[f"out_of_bounds_{name}"] = [example.text for example in examples]
    return {name: texts for name, texts in splits.items() if texts}
