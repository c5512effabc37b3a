"""Stages `assistant-N`: students in between, of which each teaches the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgedistill.pipeline.stages.any_ground import Answers, AnyGround, Candidate
from edgedistill.pipeline.stages.student import TrainedStudent, load_student, train_student

G = TypeVar("G", bound=AnyGround)
ROOMS = ("models", "tasks", "pipeline/stages/assistants")


def with_assistants(ground: G, assistants: Sequence[Candidate]) -> G:
    """The ground on which students learn the answers of the last assistant.

    Teacher assistants, Mirzadeh et al. 2019, arXiv 1902.03393. Parts that look inside keep looking
    at the teacher, and closeness to its answers, or to the mixture, chooses every epoch.
    """
    if not assistants:
        return ground
    # Students in a row are an affair of the one that ships.
    spec = ground.context.spec
    once = spec.distillation.model_copy(update={"generations": 1, "assistants": ()})
    context = replace(ground.context, spec=spec.model_copy(update={"distillation": once}))
    scores = []
    for assistant in assistants:
        trained = train_student(replace(ground, context=context), assistant)
        scores.append(float(trained.training["best_score"]))
        ground = replace(ground, instead=_answers(ground, trained))
    told = ", ".join(f"{score:.4g}" for score in scores)
    note = (
        f"The student learned its answers from the last of {len(scores)} assistants in a row; "
        f"their minus divergence from the teacher (validation): {told}."
    )
    answers = replace(ground.answers, notes=(*ground.answers.notes, note))
    return replace(ground, instead=answers)


def _answers(ground: AnyGround, trained: TrainedStudent) -> Answers:
    """What an assistant answers, read once; its closeness is still to the answers before."""

    def compute(folder: Path) -> None:
        logits = ground.logits(load_student(ground, trained), ground.texts)
        np.save(folder / "logits.npy", np.clip(logits, -6e4, 6e4).astype(np.float16))

    stage = ground.context.store.stage(
        trained.candidate.name, {"student": trained.stage.fingerprint}, compute, rooms=ROOMS
    )
    logits = np.load(stage.folder / "logits.npy", mmap_mode="r")
    return replace(ground.answers, fingerprint=stage.fingerprint, logits=logits)
