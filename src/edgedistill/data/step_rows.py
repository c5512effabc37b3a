"""Rows of the steps of fine-tuning that come before the task's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.errors import DataError
from edgedistill.core.task import TaskSpec
from edgedistill.core.teachers import TuningStep
from edgedistill.data.duplicates import normalised
from edgedistill.data.reading import read_examples
from edgedistill.data.splitting import stratified_split


@dataclass(frozen=True)
class StepRows:
    """What one step learns from, and what its ability is measured on.

    `num_left_out`: of both, rows whose text is held out elsewhere, or is learned elsewhere.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    num_left_out: int


def load_steps(
    steps: Sequence[TuningStep],
    spec: TaskSpec,
    dataset: Dataset,
    root: Path,
    quarantine: Path | None = None,
) -> list[StepRows]:
    """The rows of every step, in the columns of the task's own rows.

    No step learns a text that the task or any step is measured on, and no step is measured on a
    text that the task or its student learns: such rows are left out.

    Args:
        root: folder that relative paths start from.
        quarantine: where malformed rows are set aside, if the task says so; None refuses them.

    Raises:
        DataError: files, rows or labels are wrong, or nothing is left of them.
    """
    found = [_read(step, spec, root, quarantine) for step in steps]
    learned = {normalised(text) for s in ("train", "unlabelled") for text in dataset.texts(s)}
    measured = [_without(validation, learned) for _, validation in found]
    held_out = {normalised(text) for s in ("validation", "test") for text in dataset.texts(s)}
    held_out |= {normalised(row.text) for rows in measured for row in rows}
    result = []
    for step, (train, validation), kept in zip(steps, found, measured, strict=True):
        own = _without(train, held_out)
        for rows, name in ((own, step.data), (kept, step.validation or step.data)):
            if not rows:
                raise DataError(
                    "every row stands among the task's own, or among those it is measured on",
                    where=str(root / name),
                    fix="give this step rows of its own, and a file for validation",
                )
            _require_known(rows, dataset.labels, root / name)
        num_left_out = len(train) + len(validation) - len(own) - len(kept)
        result.append(StepRows(own, kept, num_left_out))
    return result


def step_files(steps: Sequence[TuningStep], root: Path) -> list[Path]:
    """Every file that the steps name."""
    names = [name for step in steps for name in (step.data, step.validation) if name is not None]
    return [root / name for name in names]


def _read(
    step: TuningStep, spec: TaskSpec, root: Path, quarantine: Path | None
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    data = spec.data
    aside = quarantine if data.on_malformed == "quarantine" else None

    def rows(name: str) -> tuple[Example, ...]:
        return read_examples(
            root / name, text_column=data.text_column, label_column=data.label_column,
            id_column=data.id_column, quarantine=aside,
        )  # fmt: skip

    if step.validation is not None:
        return rows(step.data), rows(step.validation)
    shares = {"validation": data.split_ratios.validation}
    parts = stratified_split(rows(step.data), shares, seed=data.split_seed)
    return parts["train"], parts["validation"]


def _without(rows: Sequence[Example], texts: set[str]) -> tuple[Example, ...]:
    return tuple(row for row in rows if normalised(row.text) not in texts)


def _require_known(rows: Sequence[Example], labels: Sequence[str], file: Path) -> None:
    strangers = sorted({row.label or "" for row in rows} - set(labels))
    if strangers:
        first = next(row for row in rows if row.label == strangers[0])
        raise DataError(
            f"{len(strangers)} label(s) are none of the task's: {strangers[0]!r} of row {first.id}",
            where=str(file),
            fix=f"the rows of a step have labels of the task: {', '.join(labels[:20])}",
        )
