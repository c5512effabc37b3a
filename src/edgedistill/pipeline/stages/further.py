"""Stages `answers-…`: what further teachers say to the transfer set, each read alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgedistill.core.errors import EdgeDistillError, MissingExtra, ModelError, SpecError
from edgedistill.core.events import Event
from edgedistill.core.files import sha256_of
from edgedistill.core.task import TaskSpec
from edgedistill.core.teachers import FurtherTeacher, TeacherSpec
from edgedistill.models.teachers.sources import (
    TOKENIZER,
    WEIGHTS,
    classifier_labels,
    resolve_teacher,
)
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.teacher import prepare_teacher
from edgedistill.pipeline.stages.transfer import TransferSet, read_in_parts, transfer_texts
from edgedistill.pipeline.store import StageResult
from edgedistill.tasks.classification import TextEncoder

ROOMS = (
    "data/augmentation",
    "models/teachers",
    "models/inference",
    "tasks",
    "runtime/tokenizer",
    "pipeline/stages/transfer",
    "pipeline/stages/further",
)
#: What one teacher may fail by without the others: it cannot be loaded, or cannot read.
FAILURES = (ModelError, MissingExtra, RuntimeError, IndexError, KeyError, ValueError)
#: Of each label of the task, the classes of a teacher that stand for it; none: not known.
Groups = tuple[tuple[int, ...], ...]
T = TypeVar("T", bound=TeacherSpec)


@dataclass(frozen=True)
class Heard:
    """What the teacher from `source` said, in its own classes: `logits` [n, classes] to the rows of
    the transfer set, `validation` to those of the validation texts."""

    source: str
    weight: float
    groups: Groups
    stage: StageResult
    logits: np.ndarray
    validation: np.ndarray


def hear_all(
    context: Context, data: PreparedData, transfer: TransferSet
) -> tuple[list[Heard], list[str]]:
    """Every further teacher that can be heard, and why the others cannot.

    Raises:
        SpecError: a teacher does not know a label, and no mapping says so.
    """

    def hear(place: int, settings: FurtherTeacher) -> Heard:
        return _hear(context, data, transfer, place, settings)

    return hear_each(context, hear)


def hear_each(
    context: Context[Any], hear: Callable[[int, Any], Heard]
) -> tuple[list[Heard], list[str]]:
    """What `hear` (place in the task, settings) gives of each further teacher, and why others
    are left out."""
    heard, failures = list[Heard](), list[str]()
    for place, settings in enumerate(context.spec.teachers):
        try:
            heard.append(hear(place, settings))
        except FAILURES as error:
            failures.append(left_out(place, settings, error))
            context.listener(Event("mixture", "note", failures[-1]))
    return heard, failures


def left_out(place: int, settings: TeacherSpec, error: Exception) -> str:
    """Why a teacher has no part in the mixture."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, EdgeDistillError):
        what = error.what
    return f"Further teacher {place + 1} ({settings.source}) was left out: {what}"


def find_further(
    spec: TaskSpec, root: Path, labels: Sequence[str]
) -> tuple[list[tuple[FurtherTeacher, Path]], list[str]]:
    """The further teachers that are there, with their folders, and why others will be left out.

    Raises:
        SpecError: a teacher does not know a label, and no mapping says so.
    """

    def require(place: int, settings: FurtherTeacher, source: Path) -> None:
        if settings.num_epochs == 0:
            _groups_of(place, settings, source, labels)

    return find_each(spec.teachers, root, require)


def find_each(
    teachers: Sequence[T], root: Path, require: Callable[[int, T, Path], None]
) -> tuple[list[tuple[T, Path]], list[str]]:
    """The teachers that are there, with their folders, and why others will be left out.

    Args:
        require: raises SpecError where a teacher (place in the task, settings, folder) does not
            fit the task.
    """
    found, failures = list[tuple[T, Path]](), list[str]()
    for place, settings in enumerate(teachers):
        try:
            source = resolved(place, settings, root)
            require(place, settings, source)
            found.append((settings, source))
        except FAILURES as error:
            failures.append(left_out(place, settings, error))
    return found, failures


def label_groups(
    own: Sequence[str], labels: Sequence[str], mapping: Mapping[str, Sequence[str]] | None
) -> Groups:
    """Which of a classifier's classes stand for each label of the task.

    Args:
        own: the classifier's names of its classes.
        mapping: its names of each label, none where it does not know it; left out, a label has
            the same name.

    Raises:
        SpecError: a label that neither the classifier knows nor the mapping mentions, a name that
            is not the classifier's, or one that stands for two labels.
    """
    if unknown := sorted(set(mapping or {}) - set(labels)):
        raise SpecError(f"{unknown[0]!r} is no label of the task", fix=f"one of {list(labels)}")
    named = {label: (label,) for label in labels} | dict(mapping or {})
    for label, names in named.items():
        if foreign := [name for name in names if name not in own]:
            mentioned = label in (mapping or {})
            what = f"{foreign[0]!r}, which is to stand for {label!r}" if mentioned else repr(label)
            raise SpecError(
                f"this teacher does not know the label {what}",
                fix=f"map it to one of {list(own)}, or to null where it does not know it",
            )
    everything = [name for names in named.values() for name in names]
    if twice := sorted({name for name in everything if everything.count(name) > 1}):
        raise SpecError(f"its label {twice[0]!r} stands for more than one", fix="name it once")
    if not everything:
        raise SpecError("this teacher knows none of the task's labels", fix="leave it out")
    return tuple(tuple(own.index(name) for name in named[label]) for label in labels)


def resolved(place: int, settings: TeacherSpec, root: Path) -> Path:
    """The folder of a further teacher; a SpecError names its place in the task."""
    try:
        return resolve_teacher(settings.source, root=root, sha256=settings.sha256)
    except SpecError as error:
        raise SpecError(error.what, where=f"teachers.{place}.source", fix=error.fix) from error


def _groups_of(place: int, settings: FurtherTeacher, source: Path, labels: Sequence[str]) -> Groups:
    try:
        return label_groups(classifier_labels(source), labels, settings.labels)
    except SpecError as error:
        where = f"teachers.{place}.labels ({settings.source})"
        raise SpecError(error.what, where=where, fix=error.fix) from error


def _hear(
    context: Context,
    data: PreparedData,
    transfer: TransferSet,
    place: int,
    settings: FurtherTeacher,
) -> Heard:
    """Fine-tune the teacher if that is asked for, and let it read."""
    spec, labels = context.spec, data.dataset.labels
    name = called(settings.source)
    source = resolved(place, settings, context.root)
    load: Callable[[], Any]
    if settings.num_epochs:
        teacher = prepare_teacher(context, data, settings, f"teacher-{name}")
        encoder, load = teacher.encoder, lambda: teacher.load(data.dataset)
        groups: Groups = tuple((label,) for label in range(len(labels)))
        made_of = {"teacher": teacher.stage.fingerprint}
    else:
        groups = _groups_of(place, settings, source, labels)
        encoder, load = TextEncoder(source / TOKENIZER, spec.input.max_tokens), lambda: _own(source)
        made_of = {file: sha256_of(source / file) for file in (WEIGHTS, TOKENIZER, "config.json")}
    inputs = {
        **made_of,
        "transfer": transfer.stage.fingerprint,
        "precision": settings.precision,
        "max_tokens": spec.input.max_tokens,
    }

    def compute(folder: Path) -> None:
        _read(context, data, load(), encoder, settings.precision, f"answers-{name}", folder)

    stage = context.store.stage(f"answers-{name}", inputs, compute, rooms=ROOMS)
    logits = np.load(stage.folder / "logits.npy", mmap_mode="r")
    validation = np.load(stage.folder / "validation.npy")
    return Heard(settings.source, settings.weight, groups, stage, logits, validation)


def called(source: str) -> str:
    """A name for a teacher's stages that does not depend on its place among the others."""
    last = re.split(r"[:/\\]", source.rstrip("/\\"))[-1]
    return re.sub(r"[^A-Za-z0-9_.]+", "-", last)[:40].strip("-.") or "further"


def _own(source: Path) -> Any:
    """A fine-tuned classifier with its classes in its own order."""
    from safetensors import SafetensorError

    from edgedistill.models.teachers.encoder import fine_tuned_classifier

    try:
        return fine_tuned_classifier(source, classifier_labels(source)).eval()
    except SafetensorError as error:
        raise ModelError(f"its weights cannot be read ({error})", where=str(source)) from error


def _read(
    context: Context,
    data: PreparedData,
    model: Any,
    encoder: TextEncoder,
    precision: str,
    name: str,
    folder: Path,
) -> None:
    from edgedistill.models.inference import model_outputs

    spec, dataset = context.spec, data.dataset
    texts = transfer_texts(dataset, spec.distillation.augmentation.num_texts, spec.seed)
    of_validation = encoder.encode(dataset.texts("validation"))
    validation, _ = model_outputs(model, of_validation, pad_id=encoder.pad_id)
    # Before the long reading: most that is broken shows here.
    require_numbers(validation)
    logits = read_in_parts(
        context, model, encoder.encode(texts), folder,
        pad_id=encoder.pad_id, precision=precision, stage=name,
    )  # fmt: skip
    require_numbers(logits)
    np.save(folder / "validation.npy", validation)
    np.save(folder / "logits.npy", logits)
    for part in folder.glob("part-*.npy"):
        part.unlink()


def require_numbers(logits: np.ndarray) -> None:
    """Refuse a teacher's answers that are no numbers."""
    if not np.isfinite(logits).all():
        raise ModelError("its answers are not numbers for some texts")
