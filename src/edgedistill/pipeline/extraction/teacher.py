"""Stage `teacher`: fine-tune the encoder with a head on every token, and on texts for labels."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.errors import ModelError
from edgedistill.core.extraction_task import ExtractionSpec, ExtractionTeacher
from edgedistill.core.files import read_json, sha256_of, write_json
from edgedistill.models.teachers.sources import TOKENIZER, WEIGHTS, resolve_teacher
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.dataset import PreparedDocuments, encoder_of
from edgedistill.pipeline.extraction.heads import (
    likelihood,
    output_names,
    supervised,
    teacher_form,
    token_set,
)
from edgedistill.pipeline.stages.teacher import CLASSIFIER, TRAINING, hold_table, train_teacher
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.extraction.tagging import tag_names
from edgedistill.tasks.extraction.encoding import DocumentEncoder

#: Not all of `train`: how students are taught is nothing to the teacher.
ROOMS = (
    "train/averaging",
    "train/batches",
    "train/checkpoint",
    "train/loop",
    "train/spikes",
    "train/distill/combined",
    "train/distill/seen",
    "train/heads",
    "train/token_rows",
    "train/tune/supervised",
    "models/inference",
    "models/teachers",
    "tasks",
    "runtime/tokenizer",
    "runtime/extraction",
    "pipeline/stages/teacher",
    "pipeline/extraction/heads",
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
        from edgedistill.models.teachers.encoder import fine_tuned_tagger, load_classifier

        names, form = output_names(self.encoder), teacher_form(self.encoder)
        if (self.stage.folder / CLASSIFIER).exists():
            return load_classifier(self.stage.folder / CLASSIFIER, names, form)
        return fine_tuned_tagger(self.source, names, form)


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

    Raises:
        ModelError: it is to be taken as it is, and is no tagger of this task.
    """
    spec, settings = context.spec, settings or context.spec.teacher
    source = resolve_teacher(settings.source, root=context.root, sha256=settings.sha256)
    digest = sha256_of(source / WEIGHTS)
    inputs = {
        "data": data.stage.fingerprint,
        "weights": digest,
        "settings": settings.model_dump(mode="json", exclude={"source", "sha256", "weight"}),
        "heads": spec.heads.model_dump(mode="json"),
        "max_tokens": spec.input.max_tokens,
        "seed": spec.seed,
    }

    def compute(folder: Path) -> None:
        shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
        encoder = encoder_of(spec, folder, data.rows.labels)
        if settings.num_epochs == 0:
            record = _use_as_it_is(spec, data, encoder, source)
        else:
            record = _fine_tune(context, settings, name, data, encoder, source, folder)
        record["whole_words"] = encoder.whole_words(data.rows.train)
        write_json(folder / TRAINING, record)

    stage = context.store.stage(name, inputs, compute, rooms=ROOMS)
    training = read_json(stage.folder / TRAINING)
    encoder = encoder_of(spec, stage.folder, data.rows.labels)
    return Teacher(stage, encoder, training, source, digest)


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

    from edgedistill.models.teachers.encoder import new_classifier, save_classifier
    from edgedistill.train.tune.supervised import Supervised

    spec, names = context.spec, output_names(encoder)
    torch.manual_seed(spec.seed)
    model = new_classifier(source, len(names), teacher_form(encoder))
    train, validation = (encoder.encode(rows) for rows in (data.rows.train, data.rows.validation))
    smoothing = settings.label_smoothing
    hold_table(model, settings)
    step, learner = supervised(spec, encoder, Supervised(label_smoothing=smoothing), model)
    record = train_teacher(
        context,
        settings,
        learner,
        step,
        token_set(train, encoder),
        score=likelihood(spec, validation, encoder, smoothing),
        folder=folder,
        name=name,
    )
    save_classifier(model, folder / CLASSIFIER, names)
    return record


def _use_as_it_is(
    spec: ExtractionSpec, data: PreparedDocuments, encoder: DocumentEncoder, source: Path
) -> dict[str, Any]:
    """The record of a tagger that is trained no further; one that finds nothing is refused."""
    from edgedistill.models.inference import tagger_outputs
    from edgedistill.models.teachers.encoder import fine_tuned_tagger

    model = fine_tuned_tagger(source, output_names(encoder), teacher_form(encoder))
    validation = encoder.encode(data.rows.validation)
    logits, *_ = tagger_outputs(model, validation.texts, pad_id=encoder.encoder.pad_id)
    asked = validation.tags > 0
    right = int((logits.argmax(axis=1)[asked] == validation.tags[asked]).sum())
    if not right:
        raise ModelError(
            f"the tagger has none of {int(asked.sum())} tokens in the validation rows' spans "
            "right: no teacher",
            where="teacher.source",
            fix="check that it was fine-tuned on these fields, or set teacher.num_epochs > 0",
        )
    score = likelihood(spec, validation, encoder)(model)
    return {"best_score": score, "best_epoch": 0, "history": [], "seconds": 0.0}
