"""What the student lost: rows the teacher has right and the student has wrong, by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgedistill.evaluate.metrics import class_scores


@dataclass(frozen=True)
class Flip:
    """A row the teacher has right and the student has wrong."""

    text: str
    expected: str
    answered: str


@dataclass(frozen=True)
class ClassFlips:
    """One class: recall of teacher and student, rows lost and gained, lost rows as examples."""

    label: str
    num_rows: int
    teacher_recall: float
    student_recall: float
    student_f1: float
    num_flips: int
    num_gains: int
    examples: tuple[Flip, ...]


@dataclass(frozen=True)
class FlipReport:
    """Rows lost (teacher right, student wrong) and gained, and the classes, worst first."""

    num_rows: int
    num_flips: int
    num_gains: int
    classes: tuple[ClassFlips, ...]

    @property
    def flip_rate(self) -> float:
        """Share of all rows that were lost."""
        return self.num_flips / self.num_rows


def find_flips(
    targets: ArrayLike,
    teacher: ArrayLike,
    student: ArrayLike,
    *,
    labels: Sequence[str],
    texts: Sequence[str],
    num_examples: int = 3,
) -> FlipReport:
    """Compare the answers of teacher and student row by row.

    Args:
        targets, teacher, student: label indices, int [num_rows].
        labels: names of the classes.
        texts: the inputs, for the examples.
        num_examples: lost rows shown a class, the first ones.

    Classes without rows are left out; the order is by student recall, then by rows lost.
    """
    goal, a, b = (np.asarray(x, dtype=np.int64) for x in (targets, teacher, student))
    if not len(goal) == len(a) == len(b) == len(texts) or not len(goal):
        raise ValueError("targets, teacher, student and texts must be equally long, not empty")
    lost, gained = (a == goal) & (b != goal), (a != goal) & (b == goal)
    f1 = class_scores(goal, b, len(labels)).f1
    classes = []
    for index in np.unique(goal):
        rows = goal == index
        examples = tuple(
            Flip(texts[i], labels[index], labels[b[i]])
            for i in np.flatnonzero(rows & lost)[:num_examples]
        )
        classes.append(
            ClassFlips(
                label=labels[index],
                num_rows=int(rows.sum()),
                teacher_recall=float(np.mean(a[rows] == index)),
                student_recall=float(np.mean(b[rows] == index)),
                student_f1=float(f1[index]),
                num_flips=int(np.sum(rows & lost)),
                num_gains=int(np.sum(rows & gained)),
                examples=examples,
            )
        )
    classes.sort(key=lambda c: (c.student_recall, -c.num_flips, c.label))
    return FlipReport(len(goal), int(lost.sum()), int(gained.sum()), tuple(classes))
