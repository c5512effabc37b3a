"""Stage `teacher`: fine-tune the encoder with a head on every token."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.extraction_task import ExtractionSpec, ExtractionTeacher
from edgedistill.core.files import read_json, sha256_of, write_json
from edgedistill.models.teachers.sources import TOKENIZER, WEIGHTS, resolve_teacher
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.dataset import PreparedDocuments, encoder_of
from edgedistill.pipeline.stages.teacher import CLASSIFIER, TRAINING, hold_table, train_teacher
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.extraction.tagging import tag_names
from edgedistill.tasks.extraction.encoding import DocumentEncoder, EncodedDocuments

#: Not all of `train`: how students are taught is nothing to the teacher.
ROOMS = (
    "train/averaging",
    "train/batches",
    "train/checkpoint",
    "train/loop",
    "train/spikes",
    "train/token_rows",
    "train/tune/supervised",
    "models/inference",
    "models/teachers",
    "tasks",
    "runtime/tokenizer",
    "runtime/extraction",
    "pipeline/stages/teacher",
    "pipeline/extraction/teacher",
)


@dataclass(frozen=True)
class Teacher:
    """The fine-tuned teacher on disk, its tokenizer, and the record of its training.

    `whole_words`: no training span begins or ends within a word.
    """

    stage: StageResult
    encoder: DocumentEncoder
    training: dict[str, Any]
    source: Path
    weights_sha256: str

    @property
    def tags(self) -> tuple[str, ...]:
        """Names of the tags, in the order of the logits."""
        return tag_names(self.encoder.fields)

    @property
    def whole_words(self) -> bool:
        """Whether no training span begins or ends within a word."""
        return bool(self.training["whole_words"])

    @property
    def pad_id(self) -> int:
        """Token id that fills shorter rows of a batch."""
        return self.encoder.encoder.pad_id

    def load(self) -> Any:
        """The teacher as a module in evaluation mode."""
        from edgedistill.models.teachers.encoder import EncoderTagger, load_classifier

        return load_classifier(self.stage.folder / CLASSIFIER, self.tags, EncoderTagger)


def prepare_teacher(
    context: Context[ExtractionSpec],
    data: PreparedDocuments,
    settings: ExtractionTeacher | None = None,
    name: str = "teacher",
) -> Teacher:
    """Fine-tune on the training split; the validation loss chooses the epoch.

    Args:
        settings: of a further teacher; left out, the task's `teacher`.
        name: of the stage.
    """
    spec, settings = context.spec, settings or context.spec.teacher
    source = resolve_teacher(settings.source, root=context.root, sha256=settings.sha256)
    digest = sha256_of(source / WEIGHTS)
    inputs = {
        "data": data.stage.fingerprint,
        "weights": digest,
        "settings": settings.model_dump(mode="json", exclude={"source", "sha256", "weight"}),
        "max_tokens": spec.input.max_tokens,
        "seed": spec.seed,
    }

    def compute(folder: Path) -> None:
        shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
        encoder = encoder_of(spec, folder)
        record = _fine_tune(context, settings, name, data, encoder, source, folder)
        record["whole_words"] = encoder.whole_words(data.rows.train)
        write_json(folder / TRAINING, record)

    stage = context.store.stage(name, inputs, compute, rooms=ROOMS)
    training = read_json(stage.folder / TRAINING)
    return Teacher(stage, encoder_of(spec, stage.folder), training, source, digest)


def _fine_tune(
    context: Context[ExtractionSpec],
    settings: ExtractionTeacher,
    name: str,
    data: PreparedDocuments,
    encoder: DocumentEncoder,
    source: Path,
    folder: Path,
) -> dict[str, Any]:
    import torch

    from edgedistill.models.teachers.encoder import EncoderTagger, new_classifier, save_classifier
    from edgedistill.train.token_rows import TokenSet
    from edgedistill.train.tune.supervised import Supervised

    spec, pad_id, tags = context.spec, encoder.encoder.pad_id, tag_names(encoder.fields)
    torch.manual_seed(spec.seed)
    model = new_classifier(source, len(tags), EncoderTagger)
    train, validation = (encoder.encode(rows) for rows in (data.rows.train, data.rows.validation))
    smoothing = settings.label_smoothing
    hold_table(model, settings)
    record = train_teacher(
        context,
        settings,
        model,
        Supervised(label_smoothing=smoothing),
        TokenSet(train.texts, train.is_content, train.tags, pad_id),
        score=likelihood(validation, pad_id, smoothing),
        folder=folder,
        name=name,
    )
    save_classifier(model, folder / CLASSIFIER, tags)
    return record


def likelihood(
    documents: EncodedDocuments, pad_id: int, smoothing: float = 0.0
) -> Callable[[Any], float]:
    """A function that scores a tagger: minus its cross-entropy a token, on tagged texts."""
    import torch

    from edgedistill.models.inference import token_outputs
    from edgedistill.train.tune.supervised import labelled_cross_entropy

    targets = torch.from_numpy(np.asarray(documents.tags, dtype=np.int64))

    def score(model: Any) -> float:
        logits, _ = token_outputs(model, documents.texts, pad_id=pad_id)
        return -float(labelled_cross_entropy(torch.from_numpy(logits), targets, smoothing))

    return score
