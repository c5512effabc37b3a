"""Stage `student`: build one candidate and train it, distilled or (as control) on labels alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.events import Event
from edgedistill.core.files import read_json, write_json
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.answers import Answers, teachers_answers
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.internals import TeacherInternals
from edgedistill.pipeline.stages.lesson import prepare_lesson
from edgedistill.pipeline.stages.teacher import CHECKPOINTS, Teacher, validation_accuracy
from edgedistill.pipeline.stages.transfer import TransferSet
from edgedistill.pipeline.store import StageResult
from edgedistill.pipeline.strategy import require_suited

WEIGHTS = "student.safetensors"
GENERATIONS = "generations"
ROOMS = (
    "train",
    "models",
    "tasks",
    "pipeline/stages/lesson",
    "pipeline/stages/student",
    "pipeline/strategy",
)
#: An epoch has at least this many steps: small sets get smaller batches.
LEAST_STEPS_AN_EPOCH = 60
LEAST_BATCH = 16


@dataclass(frozen=True)
class Candidate:
    """A student to try: its family, a name for people, and its settings."""

    family: str
    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """What every student of a run grows on; `internals` where the strategy looks inside,
    `instead` where students are to answer otherwise than the teacher alone does."""

    context: Context
    data: PreparedData
    teacher: Teacher
    transfer: TransferSet
    internals: TeacherInternals | None = None
    instead: Answers | None = None

    @cached_property
    def answers(self) -> Answers:
        """What students are to answer."""
        return self.instead or teachers_answers(self.transfer)

    @cached_property
    def material(self) -> Any:
        """What students are built from; students copy what they take of it."""
        from edgedistill.models.students.family import Material
        from edgedistill.models.students.vocabulary import keep_tokens, used_tokens

        dataset, encoder = self.data.dataset, self.teacher.encoder
        model = self.teacher.load(dataset)
        table = model.encoder.get_input_embeddings().weight
        used = used_tokens([self.transfer.real_ids], vocabulary_size=len(table))
        return Material(
            teacher=model,
            kept=keep_tokens(table, used.tolist(), encoder.special_ids),
            train=encoder.encode(dataset.texts("train")),
            targets=dataset.targets("train"),
            num_labels=len(dataset.labels),
            max_tokens=self.context.spec.input.max_tokens,
            pad_id=encoder.pad_id,
            seed=self.context.spec.seed,
        )


@dataclass(frozen=True)
class TrainedStudent:
    """A trained candidate on disk, and the record of its training. `members`: of an ensemble, whose
    record has their `weights` and how they are averaged."""

    candidate: Candidate
    stage: StageResult
    training: dict[str, Any]
    members: tuple[TrainedStudent, ...] = ()


def train_student(
    ground: Ground, candidate: Candidate, *, distilled: bool = True
) -> TrainedStudent:
    """The trained candidate; `distilled=False` trains the same network on the labels alone.

    Raises:
        MissingSignal, SpecError: the strategy does not fit this candidate.
    """
    context, spec = ground.context, ground.context.spec
    if distilled:
        require_suited(spec, candidate, ground.teacher.source)
    inputs = {
        "transfer": ground.transfer.stage.fingerprint,
        "family": candidate.family,
        "options": candidate.options,
        "answers": ground.answers.fingerprint if distilled else None,
        "distillation": spec.distillation.model_dump(mode="json") if distilled else None,
        "seed": spec.seed,
    }
    name = f"student-{candidate.name}" if distilled else f"control-{candidate.name}"

    def compute(folder: Path) -> None:
        model, recipe = _build(ground, candidate)
        if recipe is None:
            score = validation_accuracy(ground.data.dataset, ground.teacher.encoder)
            accuracy = score(model)
            record = {"best_score": accuracy, "best_epoch": 0, "history": [], "seconds": 0.0}
        else:
            answers, before = None, list[float]()
            if distilled:
                answers, before = _earlier_generations(ground, candidate, name, folder)
            record = _train(ground, candidate, model, recipe, name, folder, answers)
            if before:
                record["generations"] = [*before, record["best_score"]]
                shutil.rmtree(folder / GENERATIONS)
        _save(model, folder / WEIGHTS)
        write_json(folder / "training.json", record)

    stage = context.store.stage(name, inputs, compute, rooms=ROOMS)
    return TrainedStudent(candidate, stage, read_json(stage.folder / "training.json"))


def load_student(ground: Ground, trained: TrainedStudent) -> Any:
    """The trained student, or ensemble, as a module in evaluation mode."""
    from safetensors.torch import load_file

    from edgedistill.models.students.ensemble import Ensemble

    if trained.members:
        members = [load_student(ground, member) for member in trained.members]
        return Ensemble(members, trained.training["weights"], trained.training["average"]).eval()
    model, _ = _build(ground, trained.candidate)
    model.load_state_dict(load_file(trained.stage.folder / WEIGHTS))
    return model.eval()


def _build(ground: Ground, candidate: Candidate) -> tuple[Any, Any]:
    """(module, recipe) of a candidate before training."""
    import torch

    from edgedistill.models.families import FAMILIES

    family = FAMILIES.load(candidate.family)
    config = family.config(**candidate.options)
    material = ground.material
    torch.manual_seed(ground.context.spec.seed)
    return family.build(material, config), family.recipe


def _train(
    ground: Ground,
    candidate: Candidate,
    model: Any,
    recipe: Any,
    name: str,
    folder: Path,
    answers: np.ndarray | None,
) -> dict[str, Any]:
    """Train `model` to give these answers to the transfer set; None: on the labels alone."""
    from edgedistill.train.batches import TrainingSet
    from edgedistill.train.loop import train
    from edgedistill.train.tune.supervised import Supervised

    dataset, encoder = ground.data.dataset, ground.teacher.encoder
    settings = ground.context.spec.distillation
    score = validation_accuracy(dataset, encoder)
    lesson = None
    if answers is not None:
        lesson = prepare_lesson(ground, candidate, answers)
        examples = lesson.examples
        score = _closeness(ground, lesson.temperature)
    else:
        texts = encoder.encode(dataset.texts("train"))
        examples = TrainingSet(texts, dataset.targets("train"), encoder.pad_id)
    config = loop_config(
        recipe, len(examples), seed=ground.context.spec.seed, is_control=lesson is None,
        num_epochs=settings.num_epochs,
    )  # fmt: skip
    num_epochs = config.num_epochs
    steps_an_epoch = -(-len(examples) // config.batch_size)
    step: Any = Supervised(label_smoothing=recipe.label_smoothing)
    learner = model
    if lesson:
        step, learner = lesson.begin(model, num_steps=num_epochs * steps_an_epoch)
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
    ground: Ground, candidate: Candidate, name: str, folder: Path
) -> tuple[np.ndarray, list[float]]:
    """What the student that ships is to answer, and how close each student before it came.

    Born-again networks, Furlanello et al. 2018, arXiv 1805.04770: every generation is built anew
    and learns the answers of the one before, the first those of the teacher or of a mixture. Parts
    that look inside keep looking at the teacher; closeness to the first answers chooses epochs.
    """
    from edgedistill.models.inference import model_outputs

    answers, scores = ground.answers.logits, list[float]()
    for number in range(1, ground.context.spec.distillation.generations):
        place = folder / GENERATIONS / str(number)
        # Written last: a killed run begins with the generation that it was at.
        if not (place / "training.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            model, recipe = _build(ground, candidate)
            told = f"{name}, generation {number}"
            record = _train(ground, candidate, model, recipe, told, place, answers)
            texts, pad_id = ground.transfer.texts, ground.teacher.encoder.pad_id
            logits, _ = model_outputs(model, texts, pad_id=pad_id)
            np.save(place / "logits.npy", np.clip(logits, -6e4, 6e4).astype(np.float16))
            write_json(place / "training.json", record)
        answers = np.load(place / "logits.npy", mmap_mode="r")
        scores.append(float(read_json(place / "training.json")["best_score"]))
    return answers, scores


def _closeness(ground: Ground, temperature: float) -> Callable[[Any], float]:
    """A function that scores a model: minus the divergence from what it is to answer, on validation
    texts.

    The epoch that is kept is chosen by it: on 3,000 texts, accuracy alone is so coarse that it
    may pick an early epoch by luck, whereas closeness to the teacher uses every probability.
    """
    import torch

    from edgedistill.models.inference import model_outputs
    from edgedistill.train.distill.logit_losses import softened_kl

    encoder = ground.teacher.encoder
    texts = encoder.encode(ground.data.dataset.texts("validation"))
    target = torch.from_numpy(ground.answers.validation)

    def score(model: Any) -> float:
        logits, _ = model_outputs(model, texts, pad_id=encoder.pad_id)
        return -float(softened_kl(torch.from_numpy(logits), target, temperature))

    return score


def _save(model: Any, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: t.detach().contiguous() for name, t in model.state_dict().items()}, path)
