"""The plan of a successive halving: how long its trainings are, and how many go on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgedistill.core.errors import DataError
from edgedistill.pipeline.strategy_options import MOST_REFINED

#: One of so many goes on to a training so many times as long.
ETA = 3
NUM_RUNGS = 3
#: With fewer validation rows nothing can be told apart.
LEAST_ROWS = 20


def rungs_of(num_epochs: int) -> list[int]:
    """Epochs of the trials of each rung; the last ones are whole trainings."""
    return sorted({math.ceil(num_epochs / ETA**power) for power in range(NUM_RUNGS)})


def num_kept(num_options: int) -> int:
    """How many go on, plain response among them."""
    return max(2, math.ceil(num_options / ETA))


def planned_trainings(num_options: int, rungs: Sequence[int]) -> float:
    """What trying all of them takes, in whole trainings."""
    epochs, num = 0, num_options + MOST_REFINED
    for rung in rungs:
        epochs += num * rung
        num = num_kept(num)
    return epochs / rungs[-1]


def require_rows(num_rows: int) -> None:
    """Refuse validation rows that are too few to tell strategies apart.

    Raises:
        DataError: there are fewer than LEAST_ROWS.
    """
    if num_rows < LEAST_ROWS:
        raise DataError(
            f"strategy auto compares on validation rows, and {num_rows} are too few",
            where="data",
            fix=f"give at least {LEAST_ROWS}, hundreds to see small gains, or name a strategy",
        )


def paired_gain(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """(mean difference, its standard error) of scores of the same rows."""
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(difference)))
