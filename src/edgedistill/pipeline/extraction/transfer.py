"""Stage `transfer`: the texts that students learn from, and what the teacher says to each token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import Event
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.files import read_json, write_json
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.dataset import PreparedDocuments
from edgedistill.pipeline.extraction.teacher import Teacher
from edgedistill.pipeline.store import StageResult
from edgedistill.tasks.extraction.encoding import EncodedDocuments, joined

ROOMS = (
    "data/augmentation", "models/teachers", "models/inference", "tasks", "runtime/tokenizer",
    "runtime/extraction", "pipeline/extraction/transfer",
)  # fmt: skip
#: Texts that the teacher reads at a time.
PART = 2048
ARRAYS = ("ids", "starts", "is_content", "tags", "logits")
#: Of labels of whole texts, where the task has any.
LABEL_ARRAYS = ("labels", "label_logits")
#: Logits are kept in half precision, which ends at 65,504.
MOST_LOGIT = 6e4


@dataclass(frozen=True)
class TransferSet:
    """Texts to learn from, with the teacher's logits of every token, float16 [num_tokens, tags],
    and of the labels of every text, float16 [n, values] (None: the task has none); arrays are
    memory-mapped.

    The first `num_labelled` texts are the training split in its order, the first `num_real` those
    and the unlabelled pool; the rest was made from them.
    """

    stage: StageResult
    documents: EncodedDocuments
    logits: np.ndarray
    num_labelled: int
    num_real: int
    label_logits: np.ndarray | None = None

    @property
    def labelled(self) -> EncodedDocuments:
        """The training split."""
        return self.documents.part(self.num_labelled)

    @property
    def real_ids(self) -> np.ndarray:
        """Token ids of the texts that people wrote."""
        return np.asarray(self.documents.texts.part(0, self.num_real).ids)

    def validation_logits(self) -> np.ndarray:
        """The teacher's logits of every token of the validation split, float32."""
        return np.asarray(np.load(self.stage.folder / "validation.npy"))

    def validation_label_logits(self) -> np.ndarray | None:
        """The teacher's logits of the labels of the validation split, float32 [n, values]."""
        if self.label_logits is None:
            return None
        return np.asarray(np.load(self.stage.folder / "validation_labels.npy"))


def prepare_transfer(
    context: Context[ExtractionSpec], data: PreparedDocuments, teacher: Teacher
) -> TransferSet:
    """Training texts, unlabelled pool and augmentation, read by the teacher once."""
    spec = context.spec
    inputs = {
        "data": data.stage.fingerprint,
        "teacher": teacher.stage.fingerprint,
        "augmentation": spec.distillation.augmentation.model_dump(mode="json"),
        "precision": spec.teacher.precision,
        "seed": spec.seed,
    }

    def compute(folder: Path) -> None:
        from edgedistill.models.inference import tagger_outputs

        documents, num_real = _texts(context, data, teacher)
        model = teacher.load()
        arrays = (documents.texts.ids, documents.texts.starts, documents.is_content,
                  documents.tags)  # fmt: skip
        for name, array in zip(ARRAYS, arrays, strict=False):
            np.save(folder / f"{name}.npy", array)
        if teacher.encoder.labels:
            np.save(folder / "labels.npy", documents.labels)
        precision = spec.teacher.precision
        read_all(context, model, documents.texts, teacher, folder, precision=precision)
        validation = teacher.encoder.encode(data.rows.validation)
        logits, _, values = tagger_outputs(model, validation.texts, pad_id=teacher.pad_id)
        np.save(folder / "validation.npy", logits)
        np.save(folder / "validation_labels.npy", values)
        write_json(folder / "counts.json", {"num_real": num_real})

    stage = context.store.stage("transfer", inputs, compute, rooms=ROOMS)
    names = (*ARRAYS, *(LABEL_ARRAYS if data.rows.labels else ()))
    ids, starts, is_content, tags, logits, *more = (
        np.load(stage.folder / f"{name}.npy", mmap_mode="r") for name in names
    )
    labels, label_logits = more or (np.zeros((len(starts) - 1, 0), np.int16), None)
    documents = EncodedDocuments(Encoded(ids, starts), is_content, tags, labels)
    num_real = int(read_json(stage.folder / "counts.json")["num_real"])
    num_labelled = len(data.rows.train)
    return TransferSet(stage, documents, logits, num_labelled, num_real, label_logits)


def _texts(
    context: Context[ExtractionSpec], data: PreparedDocuments, teacher: Teacher
) -> tuple[EncodedDocuments, int]:
    """The training texts with their tags, then others without; how many people wrote.

    Of the others, those that the model cannot read whole are left out.
    """
    from edgedistill.data.augmentation import augment

    spec, encoder = context.spec, teacher.encoder
    unlabelled = [text for text in data.rows.unlabelled if encoder.fits(text)]
    real = [*data.rows.texts("train"), *unlabelled]
    made = augment(real, num=spec.distillation.augmentation.num_texts, seed=spec.seed)
    others = [*unlabelled, *(text for text in made if encoder.fits(text))]
    documents = joined(encoder.encode(data.rows.train), encoder.encode_texts(others))
    return documents, len(real)


def read_all(
    context: Context[ExtractionSpec],
    model: Any,
    texts: Encoded,
    teacher: Teacher,
    folder: Path,
    *,
    precision: str,
    stage: str = "transfer",
) -> None:
    """Write the teacher's logits of every token, float16 [num_tokens, tags], part by part, and
    those of the labels of every text, where the task has any.

    Half precision: 10 bits of mantissa are finer than the teacher's own noise. A killed run goes on
    with the part that it was at.
    """
    from edgedistill.models.inference import tagger_outputs

    progress = folder / "logits.json"
    num_read = int(read_json(progress)) if progress.exists() else 0
    mode: Literal["r+", "w+"] = "r+" if num_read else "w+"
    shapes = {"logits": (len(texts.ids), len(teacher.tags))}
    if labels := teacher.encoder.labels:
        shapes["label_logits"] = (len(texts), sum(len(label.values) for label in labels))
    kept = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode=mode, dtype=np.float16, shape=shape
        )
        for name, shape in shapes.items()
    }
    message = f"the teacher reads {len(texts):,} texts"
    for start in range(num_read, len(texts), PART):
        stop = min(start + PART, len(texts))
        some = texts.part(start, stop)
        logits, _, values = tagger_outputs(model, some, pad_id=teacher.pad_id, precision=precision)
        place = int(texts.starts[start])
        parts = {"logits": (place, logits), "label_logits": (start, values)}
        for name, whole in kept.items():
            first, part = parts[name]
            whole[first : first + len(part)] = np.clip(part, -MOST_LOGIT, MOST_LOGIT)
            whole.flush()
        write_json(progress, stop)
        context.listener(Event(stage, "progress", message, stop / len(texts)))
