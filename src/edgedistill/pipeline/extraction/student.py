"""Stage `student`: a tagger cut out of the teacher, distilled or (as control) on spans alone."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.errors import SpecError
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.files import read_json, write_json
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.dataset import PreparedDocuments
from edgedistill.pipeline.extraction.heads import (
    closeness,
    distillation_step,
    label_method,
    likelihood,
    output_names,
    student_of,
    supervised_step,
    token_set,
)
from edgedistill.pipeline.extraction.teacher import Teacher
from edgedistill.pipeline.extraction.transfer import TransferSet
from edgedistill.pipeline.stages.student import WEIGHTS, loop_config
from edgedistill.pipeline.stages.teacher import CHECKPOINTS, TRAINING
from edgedistill.pipeline.store import StageResult

ROOMS = (
    "train", "models", "tasks", "pipeline/stages/student", "pipeline/extraction/heads",
    "pipeline/extraction/student",
)  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """What every student of a run grows on."""

    context: Context[ExtractionSpec]
    data: PreparedDocuments
    teacher: Teacher
    transfer: TransferSet

    @cached_property
    def material(self) -> Any:
        """What students are built from; students copy what they take of it."""
        from edgedistill.models.students.family import Material
        from edgedistill.models.students.vocabulary import keep_tokens, used_tokens

        model, texts = self.teacher.load(), self.transfer.labelled.texts
        table = model.encoder.get_input_embeddings().weight
        used = used_tokens([self.transfer.real_ids], vocabulary_size=len(table))
        return Material(
            teacher=model,
            kept=keep_tokens(table, used.tolist(), self.teacher.encoder.encoder.special_ids),
            train=texts,
            targets=np.zeros(len(texts), np.int64),
            num_labels=len(output_names(self.teacher.encoder)),
            max_tokens=self.context.spec.input.max_tokens,
            pad_id=self.teacher.pad_id,
            seed=self.context.spec.seed,
        )


@dataclass(frozen=True)
class Student:
    """A trained student on disk, and the record of its training."""

    ground: Ground
    stage: StageResult
    training: dict[str, Any]

    def load(self) -> Any:
        """The student as a module in evaluation mode."""
        from safetensors.torch import load_file

        model, _ = _build(self.ground)
        model.load_state_dict(load_file(self.stage.folder / WEIGHTS))
        return model.eval()


def checked_config(spec: ExtractionSpec) -> Any:
    """The settings of the student's family; raises SpecError for what it lacks."""
    from pydantic import ValidationError

    from edgedistill.models.families import FAMILIES

    config = FAMILIES.load(spec.student.family).config
    try:
        return config(**spec.student.options)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise SpecError(
            f"student.options.{key}: {fault['msg']}",
            fix=f"options of {spec.student.family}: {', '.join(config.model_fields)}",
        ) from error


def train_student(ground: Ground, *, distilled: bool = True) -> Student:
    """The trained student; `distilled=False` trains the same network on the spans alone."""
    context, spec = ground.context, ground.context.spec
    inputs = {
        "transfer": ground.transfer.stage.fingerprint,
        "student": spec.student.model_dump(mode="json"),
        "distillation": spec.distillation.model_dump(mode="json") if distilled else None,
        "heads": spec.heads.model_dump(mode="json"),
        "seed": spec.seed,
    }
    name = "student" if distilled else "control"

    def compute(folder: Path) -> None:
        from safetensors.torch import save_file

        model, recipe = _build(ground)
        record = _train(ground, model, recipe, name, folder, distilled=distilled)
        state = {n: t.detach().contiguous() for n, t in model.state_dict().items()}
        save_file(state, folder / WEIGHTS)
        write_json(folder / TRAINING, record)

    stage = context.store.stage(name, inputs, compute, rooms=ROOMS)
    return Student(ground, stage, read_json(stage.folder / TRAINING))


def _build(ground: Ground) -> tuple[Any, Any]:
    """(module, recipe) before training."""
    import torch

    from edgedistill.models.families import FAMILIES

    spec = ground.context.spec
    family, config, material = (
        FAMILIES.load(spec.student.family), checked_config(spec), ground.material,
    )  # fmt: skip
    torch.manual_seed(spec.seed)
    network = family.build(material, config)
    return student_of(network, ground.teacher.encoder), family.recipe


def _train(
    ground: Ground, model: Any, recipe: Any, name: str, folder: Path, *, distilled: bool
) -> dict[str, Any]:
    from edgedistill.core.protocols import Signal
    from edgedistill.train.distill.response import Response, ResponseConfig
    from edgedistill.train.loop import train
    from edgedistill.train.tune.supervised import Supervised

    spec, transfer, encoder = ground.context.spec, ground.transfer, ground.teacher.encoder
    validation, settings = encoder.encode(ground.data.rows.validation), spec.distillation
    if distilled:
        documents = transfer.documents
        temperature = settings.temperature or recipe.temperature
        config = ResponseConfig(
            temperature=temperature, hard_weight=settings.hard_weight,
            energy_weight=settings.energy_weight,
        )  # fmt: skip
        step = distillation_step(spec, encoder, Response(config), label_method(config))
        examples = token_set(
            documents, encoder, {Signal.LOGITS: transfer.logits}, transfer.label_logits
        )
        score = closeness(
            spec, validation, encoder, transfer.validation_logits(),
            transfer.validation_label_logits(), temperature,
        )  # fmt: skip
    else:
        documents = transfer.labelled
        step = supervised_step(spec, encoder, Supervised(label_smoothing=recipe.label_smoothing))
        examples = token_set(documents, encoder)
        score = likelihood(spec, validation, encoder)
    result = train(
        step.learner(model), step, examples,
        score=score,
        config=loop_config(
            recipe, len(documents), seed=spec.seed, is_control=not distilled,
            num_epochs=settings.num_epochs,
        ),
        checkpoints=folder / CHECKPOINTS, stage=name, listener=ground.context.listener,
    )  # fmt: skip
    shutil.rmtree(folder / CHECKPOINTS)
    return asdict(result)
