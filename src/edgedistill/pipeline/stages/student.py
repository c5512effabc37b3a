"""Stage `student`: build one candidate and train it, distilled or (as control) on labels alone."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.events import Event
from edgedistill.core.files import read_json, write_json
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.any_ground import AnyGround, Candidate
from edgedistill.pipeline.stages.lesson import prepare_lesson
from edgedistill.pipeline.stages.rounds import (
    WEIGHTS,
    forget_rounds,
    save_module,
    shrink_in_rounds,
)
from edgedistill.pipeline.stages.teacher import CHECKPOINTS
from edgedistill.pipeline.store import StageResult
from edgedistill.pipeline.strategy import require_suited

GENERATIONS = "generations"
ROOMS = (
    "train",
    "models",
    "tasks",
    "pipeline/stages/any_ground",
    "pipeline/stages/lesson",
    "pipeline/stages/rounds",
    "pipeline/stages/student",
    "pipeline/strategy",
)
#: An epoch has at least this many steps: small sets get smaller batches.
LEAST_STEPS_AN_EPOCH = 60
LEAST_BATCH = 16


@dataclass(frozen=True)
class TrainedStudent:
    """A trained candidate on disk, and the record of its training. `members`: of an ensemble, whose
    record has their `weights` and how they are averaged."""

    candidate: Candidate
    stage: StageResult
    training: dict[str, Any]
    members: tuple[TrainedStudent, ...] = ()


def train_student(
    ground: AnyGround, candidate: Candidate, *, distilled: bool = True
) -> TrainedStudent:
    """The trained candidate; `distilled=False` trains the same network on the labels alone.

    Raises:
        MissingSignal, SpecError: the strategy does not fit this candidate.
    """
    context, spec = ground.context, ground.context.spec
    if distilled:
        require_suited(spec, candidate, ground.teacher.source)
    inputs = inputs_of(ground, candidate, distilled=distilled)
    name = f"student-{candidate.name}" if distilled else f"control-{candidate.name}"

    def compute(folder: Path) -> None:
        shrinking, told = FAMILIES.load(candidate.family).shrinking, dict[str, Any]()
        if distilled and shrinking:
            model, recipe, told = shrink_in_rounds(
                ground, candidate, folder, partial(_round, ground, candidate, name)
            )
        else:
            model, recipe = build_student(ground, candidate)
        if recipe is None:
            accuracy = ground.undistilled_score()(model)
            record = {"best_score": accuracy, "best_epoch": 0, "history": [], "seconds": 0.0}
        elif distilled:
            record = teach(ground, candidate, model, recipe, name, folder)
        else:
            record = _train(ground, candidate, model, recipe, name, folder, None)
        if shrinking:
            record |= {**told, "shape": shrinking.account(model)["shape"]}
        save_module(model, folder / WEIGHTS)
        write_json(folder / "training.json", record)
        forget_rounds(folder)

    stage = context.store.stage(name, inputs, compute, rooms=(*ROOMS, *ground.rooms))
    return TrainedStudent(candidate, stage, read_json(stage.folder / "training.json"))


def inputs_of(ground: AnyGround, candidate: Candidate, *, distilled: bool) -> dict[str, Any]:
    """What a trained candidate depends on; how its strategy was found has no part in it."""
    spec = ground.context.spec
    settings = spec.distillation.model_dump(mode="json", exclude={"search"})
    return {
        "transfer": ground.stage.fingerprint,
        "family": candidate.family,
        "options": candidate.options,
        "answers": ground.answers.fingerprint if distilled else None,
        "distillation": settings if distilled else None,
        "seed": spec.seed,
    }


def teach(
    ground: AnyGround, candidate: Candidate, model: Any, recipe: Any, name: str, folder: Path
) -> dict[str, Any]:
    """Teach a candidate's fresh module as the task's strategy says; returns the record.

    Args:
        name, folder: of the stage at work; what a killed attempt left there is gone on with.
    """
    answers, before = _earlier_generations(ground, candidate, name, folder)
    record = _train(ground, candidate, model, recipe, name, folder, answers)
    if before:
        record["generations"] = [*before, record["best_score"]]
        shutil.rmtree(folder / GENERATIONS)
    return record


def load_student(ground: AnyGround, trained: TrainedStudent) -> Any:
    """The trained student, or ensemble, as a module in evaluation mode."""
    from safetensors.torch import load_file

    from edgedistill.models.students.ensemble import Ensemble

    if trained.members:
        members = [load_student(ground, member) for member in trained.members]
        return Ensemble(members, trained.training["weights"], trained.training["average"]).eval()
    if shape := trained.training.get("shape"):
        model: Any = FAMILIES.load(trained.candidate.family).shrinking.restore(shape)
    else:
        model, _ = build_student(ground, trained.candidate)
    model.load_state_dict(load_file(trained.stage.folder / WEIGHTS))
    return model.eval()


def build_student(ground: AnyGround, candidate: Candidate) -> tuple[Any, Any]:
    """(module, recipe) of a candidate before training."""
    import torch

    family = FAMILIES.load(candidate.family)
    config = family.config(**candidate.options)
    material = ground.material
    torch.manual_seed(ground.context.spec.seed)
    network = family.build(material, config)
    if family.shrinking:
        return network, family.shrinking.recipe(config, network)
    return ground.formed(network), family.recipe


def _round(
    ground: AnyGround,
    candidate: Candidate,
    name: str,
    model: Any,
    recipe: Any,
    what: str,
    place: Path,
) -> dict[str, Any]:
    """An epoch on the teacher's answers for what has lost some of its structure."""
    told, answers = f"{name}, {what}", ground.answers.logits
    return _train(ground, candidate, model, recipe, told, place, answers, num_epochs=1)


def _train(
    ground: AnyGround,
    candidate: Candidate,
    model: Any,
    recipe: Any,
    name: str,
    folder: Path,
    answers: np.ndarray | None,
    *,
    num_epochs: int | None = None,
) -> dict[str, Any]:
    """Train `model` to give these answers to the transfer set; None: on the labels alone.

    Args:
        num_epochs: instead of what the task says.
    """
    from edgedistill.train.loop import train
    from edgedistill.train.tune.supervised import Supervised

    lesson = None
    if answers is not None:
        lesson = prepare_lesson(ground, candidate, answers)
        examples, score = lesson.examples, ground.closeness(lesson.temperature)
    else:
        examples, score = ground.labelled_examples(), ground.undistilled_score()
    config = loop_config(
        recipe, len(examples), seed=ground.context.spec.seed, is_control=lesson is None,
        num_epochs=num_epochs or ground.settings.num_epochs,
    )  # fmt: skip
    num_epochs = config.num_epochs
    steps_an_epoch = -(-len(examples) // config.batch_size)
    if lesson:
        step, learner = lesson.begin(model, num_steps=num_epochs * steps_an_epoch)
    else:
        method = Supervised(label_smoothing=recipe.label_smoothing)
        step, learner = ground.undistilled(method, model)
    data = examples
    if lesson and (curriculum := lesson.curriculum(model, learner, num_epochs)):
        # An epoch without a gain opens texts: only then may it be that nothing is left to gain.
        data = curriculum
        config = replace(config, patience=config.patience + curriculum.pace.num_parts - 1)
        score = curriculum.followed(score, partial(_note, ground.context, name))
    result = train(
        learner, step, data,
        # What learns along with the student has no part in its answers.
        score=lambda _: score(model),
        config=config,
        checkpoints=folder / CHECKPOINTS, stage=name, listener=ground.context.listener,
    )  # fmt: skip
    shutil.rmtree(folder / CHECKPOINTS)
    return asdict(result)


def loop_config(
    recipe: Any, num_examples: int, *, seed: int, is_control: bool, num_epochs: int | None
) -> Any:
    """How a family's student is trained on so many examples: small sets get smaller batches and
    more epochs. `num_epochs`: what the task asks for, of a distilled one."""
    from edgedistill.train.loop import LoopConfig

    epochs, batch_size = recipe.num_epochs, recipe.batch_size
    if is_control:
        epochs, batch_size = recipe.control_epochs, recipe.control_batch_size or batch_size
    batch_size = min(batch_size, max(LEAST_BATCH, num_examples // LEAST_STEPS_AN_EPOCH))
    epochs = max(epochs, -(-recipe.least_steps // -(-num_examples // batch_size)))
    return LoopConfig(
        num_epochs=epochs if is_control else num_epochs or epochs,
        learning_rate=recipe.learning_rate,
        embedding_rate=recipe.embedding_rate,
        batch_size=batch_size,
        precision=recipe.precision,
        patience=recipe.patience,
        weight_decay=recipe.weight_decay,
        seed=seed,
    )


def _note(context: Context, stage: str, message: str) -> None:
    context.listener(Event(stage, "note", message))


def _earlier_generations(
    ground: AnyGround, candidate: Candidate, name: str, folder: Path
) -> tuple[np.ndarray, list[float]]:
    """What the student that ships is to answer, and how close each student before it came.

    Born-again networks, Furlanello et al. 2018, arXiv 1805.04770: every generation is built anew
    and learns the answers of the one before, the first those of the teacher or of a mixture. Parts
    that look inside keep looking at the teacher; closeness to the first answers chooses epochs.
    """
    answers, scores = ground.answers.logits, list[float]()
    for number in range(1, ground.settings.generations):
        place = folder / GENERATIONS / str(number)
        # Written last: a killed run begins with the generation that it was at.
        if not (place / "training.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            model, recipe = build_student(ground, candidate)
            told = f"{name}, generation {number}"
            record = _train(ground, candidate, model, recipe, told, place, answers)
            logits = ground.logits(model, ground.texts)
            np.save(place / "logits.npy", np.clip(logits, -6e4, 6e4).astype(np.float16))
            write_json(place / "training.json", record)
        answers = np.load(place / "logits.npy", mmap_mode="r")
        scores.append(float(read_json(place / "training.json")["best_score"]))
    return answers, scores
