"""What one seed of the benchmark of compression came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import kept_seeds
from strategies_pooled import Spread

NAME = "compression"
#: Of a run's measurements, those that the page has.
_MEASURED = (
    "accuracy", "teacher_accuracy", "size_bytes", "latency", "speed_up_p50", "passes",
)  # fmt: skip
#: Before the name of a file, among the models of `Seed.right`.
FILE = "file: "
WHOLE, PLAIN, ROUNDED_PLAIN = "whole model", "pruned, full precision", "pruned, rounded"


@dataclass(frozen=True)
class FileRow:
    """A file of the whole network: its bytes, and speed against full precision."""

    name: str
    size_bytes: int
    speed: Spread


@dataclass(frozen=True)
class Seed:
    """A fine-tuned model and what became of it.

    `revision`: of the code that measured it. `ways`: measurements and `ships`, by way of
    compression. `removal`: what each structural pass of the pruned way left. `files`: of the whole
    network. `full_bytes`: of its file in full precision. `computed`: bytes by palette. `right`:
    which test rows each model answered right, bool [rows].
    """

    seed: int
    revision: str
    ways: Mapping[str, Mapping[str, Any]]
    removal: Sequence[Mapping[str, Any]]
    files: Sequence[FileRow]
    full_bytes: int
    computed: Mapping[str, int]
    right: Mapping[str, np.ndarray]


def measured(run: Any) -> dict[str, Any]:
    """What the page has of a run."""
    return {key: run.measurements[key] for key in _MEASURED} | {"ships": run.ships}


def save(each: Seed) -> None:
    """Keep it beside the page."""
    told = asdict(each)
    kept_seeds.save(NAME, each.seed, told, told.pop("right"))


def load(seed: int) -> Seed:
    """As `save` kept it."""
    told, right = kept_seeds.load(NAME, seed)
    files = [FileRow(each["name"], each["size_bytes"], tuple(each["speed"]))
             for each in told.pop("files")]  # fmt: skip
    return Seed(**told, files=files, right=right)
