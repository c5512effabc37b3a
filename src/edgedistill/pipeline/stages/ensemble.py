"""Stages of an ensemble: its members, their weights, and the one student that learns from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.ensemble import FurtherStudent
from edgedistill.core.errors import SpecError
from edgedistill.core.files import read_json, write_json
from edgedistill.core.task import StudentSpec, TaskSpec
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.search import candidate_of
from edgedistill.pipeline.stages.any_ground import Answers, Candidate
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.student import (
    TrainedStudent,
    load_student,
    train_student,
)

ROOMS = ("models", "tasks", "train/distill/vote", "pipeline/stages/ensemble")
ENSEMBLE = "ensemble"
DISTILLED = "distilled-back"
#: What parts the seeds of members: no task counts so far by itself.
SEEDS_APART = 1_000_003


@dataclass(frozen=True)
class Together:
    """An ensemble, and what was made of it.

    `distilled`: None where the task asks for the ensemble itself.
    """

    ground: Ground
    ensemble: TrainedStudent
    distilled: TrainedStudent | None

    @property
    def members(self) -> tuple[TrainedStudent, ...]:
        """All members, also those without weight."""
        return self.ensemble.members

    @property
    def tried(self) -> dict[str, TrainedStudent]:
        """What may ship, by the name of its candidate, the cheapest first."""
        settings = self.ground.context.spec.student.ensemble
        assert settings is not None
        one = [self.distilled] if self.distilled else []
        made = {
            "smallest": [self.members[0], *one, self.ensemble],
            "ensemble": [self.ensemble],
            "distilled": one,
        }[settings.ships]
        return {each.candidate.name: each for each in made}


def members_of(spec: TaskSpec) -> list[Candidate]:
    """The members of the ensemble that the task asks for; none without one.

    Raises:
        SpecError: an unknown family or option, or a family that is not distilled.
    """
    settings = spec.student.ensemble
    if settings is None:
        return []
    named: list[tuple[StudentSpec | FurtherStudent, str]] = []
    named += [(spec.student, "student")] * settings.num_members
    named += [(each, f"student.ensemble.others.{i}") for i, each in enumerate(settings.others)]
    members = []
    for place, (each, key) in enumerate(named, start=1):
        name = each.family if place == 1 else f"{each.family}-{place}"
        if FAMILIES.load(each.family).recipe is None:
            distilled = [family for family in FAMILIES if FAMILIES.load(family).recipe is not None]
            raise SpecError(
                f"a {each.family} student cannot be a member of an ensemble: it is fitted to "
                "labels alone, alike for every seed, and its scores are no probabilities",
                where=f"{key}.family",
                fix=f"one of: {', '.join(distilled)}",
            )
        members.append(candidate_of(each, name, f"{key}.options"))
    return members


def train_together(ground: Ground, members: Sequence[Candidate]) -> Together:
    """Train the members, weigh them, and let one student learn from them if that is asked for.

    Each member learns what a single student would, with a seed of its own; the first is that
    single student. The distilled one learns what the ensemble answers in place of the teacher.
    """
    trained = [
        train_student(_seeded(ground, place), member) for place, member in enumerate(members)
    ]
    ensemble = _weighed(ground, trained)
    settings, distilled = ground.context.spec.student.ensemble, None
    if settings and settings.ships != "ensemble":
        taught = replace(ground, instead=_answers(ground, ensemble))
        distilled = train_student(taught, replace(members[0], name=DISTILLED))
    return Together(ground, ensemble, distilled)


def _seeded(ground: Ground, place: int) -> Ground:
    """The ground with the seed of a member; the first has the task's own."""
    spec = ground.context.spec
    seeded = spec.model_copy(update={"seed": spec.seed + place * SEEDS_APART})
    # What is made once for a ground is made with its seed.
    context = replace(ground.context, spec=seeded)
    return replace(ground, context=context, made={}) if place else ground


def _weighed(ground: Ground, members: Sequence[TrainedStudent]) -> TrainedStudent:
    """The ensemble with its weights, chosen on the validation split."""
    settings = ground.context.spec.student.ensemble
    assert settings is not None
    inputs = {
        "members": [member.stage.fingerprint for member in members],
        "average": settings.average,
        "weighting": settings.weighting,
    }

    def compute(folder: Path) -> None:
        from edgedistill.train.distill.vote import averaged, vote_weights

        dataset = ground.data.dataset
        targets = dataset.targets("validation")
        told = np.stack([_logits(ground, each, dataset.texts("validation")) for each in members])
        weights = np.full(len(members), 1.0 / len(members))
        if settings.weighting == "likelihood":
            weights = vote_weights(told, targets, settings.average)
        together = averaged(told, weights, settings.average)
        accuracies = [float((each.argmax(1) == targets).mean()) for each in (*told, together)]
        record = {"best_score": accuracies[-1], "best_epoch": 0, "history": [], "seconds": 0.0}
        chosen = {"weights": weights.tolist(), "average": settings.average}
        write_json(folder / "training.json", {**record, **chosen, "accuracies": accuracies})

    stage = ground.context.store.stage(f"student-{ENSEMBLE}", inputs, compute, rooms=ROOMS)
    record = read_json(stage.folder / "training.json")
    told = [
        {"family": each.candidate.family, **each.candidate.options, "weight": round(weight, 4)}
        for each, weight in zip(members, record["weights"], strict=True)
    ]
    candidate = Candidate(ENSEMBLE, ENSEMBLE, {"members": told, "average": record["average"]})
    return TrainedStudent(candidate, stage, record, tuple(members))


def _answers(ground: Ground, ensemble: TrainedStudent) -> Answers:
    """What the ensemble answers to the transfer set and to the validation texts."""

    def compute(folder: Path) -> None:
        from edgedistill.models.inference import model_outputs

        texts, pad_id = ground.transfer.texts, ground.teacher.encoder.pad_id
        logits, _ = model_outputs(load_student(ground, ensemble), texts, pad_id=pad_id)
        np.save(folder / "logits.npy", np.clip(logits, -6e4, 6e4).astype(np.float16))
        of_validation = ground.data.dataset.texts("validation")
        np.save(folder / "validation.npy", _logits(ground, ensemble, of_validation))

    inputs = {"ensemble": ensemble.stage.fingerprint, "transfer": ground.transfer.stage.fingerprint}
    stage = ground.context.store.stage(f"{ENSEMBLE}-answers", inputs, compute, rooms=ROOMS)
    return Answers(
        stage.fingerprint,
        np.load(stage.folder / "logits.npy", mmap_mode="r"),
        np.load(stage.folder / "validation.npy"),
    )


def _logits(ground: Ground, trained: TrainedStudent, texts: list[str]) -> Any:
    """Logits float32 [n, classes] of a student or ensemble in full precision."""
    from edgedistill.models.inference import model_outputs

    encoder = ground.teacher.encoder
    model = load_student(ground, trained)
    return model_outputs(model, encoder.encode(texts), pad_id=encoder.pad_id)[0]
