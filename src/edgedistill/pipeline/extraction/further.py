"""Stages `answers-…`: what further taggers say to each token of the transfer set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgedistill.core.errors import SpecError
from edgedistill.core.extraction_task import ExtractionSpec, FurtherTagger
from edgedistill.models.teachers.sources import TOKENIZER
from edgedistill.pipeline.extraction.student import Ground
from edgedistill.pipeline.extraction.teacher import prepare_teacher
from edgedistill.pipeline.extraction.transfer import read_all
from edgedistill.pipeline.stages.further import (
    Heard,
    called,
    find_each,
    hear_each,
    require_numbers,
    resolved,
)
from edgedistill.tasks.classification import TextEncoder

ROOMS = (
    "models/teachers", "models/inference", "tasks", "runtime/tokenizer", "runtime/extraction",
    "pipeline/extraction/transfer", "pipeline/extraction/further",
)  # fmt: skip


def hear_all(ground: Ground) -> tuple[list[Heard], list[str]]:
    """Every further teacher that can be heard, and why the others cannot; labels of whole texts
    are always answered by the first."""
    return hear_each(ground.context, lambda place, settings: _hear(ground, place, settings))


def find_further(
    spec: ExtractionSpec, root: Path, encoder: TextEncoder
) -> tuple[list[tuple[FurtherTagger, Path]], list[str]]:
    """The further teachers that are there, with their folders, and why others will be left out.

    Args:
        encoder: of the first teacher.

    Raises:
        SpecError: a teacher cuts texts into other tokens than the first.
    """

    def require(place: int, settings: FurtherTagger, source: Path) -> None:
        if TextEncoder(source / TOKENIZER, spec.input.max_tokens).packed != encoder.packed:
            raise SpecError(
                "this teacher has another tokenizer than the first: its tags are of other tokens",
                where=f"teachers.{place}.source ({settings.source})",
                fix="take an encoder of the same tokenizer, or leave it out",
            )

    return find_each(spec.teachers, root, require)


def _hear(ground: Ground, place: int, settings: FurtherTagger) -> Heard:
    """Fine-tune the teacher and let it read."""
    context, name = ground.context, called(settings.source)
    resolved(place, settings, context.root)
    teacher = prepare_teacher(context, ground.data, settings, f"teacher-{name}")
    inputs = {
        "teacher": teacher.stage.fingerprint,
        "transfer": ground.stage.fingerprint,
        "precision": settings.precision,
    }

    def compute(folder: Path) -> None:
        model = teacher.load()
        validation = ground.logits(model, ground.validation[0])
        # Before the long reading: most that is broken shows here.
        require_numbers(validation)
        read_all(
            context, model, ground.texts, teacher, folder,
            precision=settings.precision, stage=f"answers-{name}",
        )  # fmt: skip
        require_numbers(np.load(folder / "logits.npy", mmap_mode="r"))
        np.save(folder / "validation.npy", validation)

    stage = context.store.stage(f"answers-{name}", inputs, compute, rooms=ROOMS)
    logits = np.load(stage.folder / "logits.npy", mmap_mode="r")
    validation = np.load(stage.folder / "validation.npy")
    groups = tuple((tag,) for tag in range(len(teacher.tags)))
    return Heard(settings.source, settings.weight, groups, stage, logits, validation)
