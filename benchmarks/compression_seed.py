"""What one seed of the benchmark of compression came to, kept as a file of its own.

Seeds take an hour each: with `--pool`, a page is made of those that were measured before, too.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.files import read_json, write_json
from results import FOLDER
from strategies_pooled import Spread

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


def revision() -> str:
    """Of this checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    ).stdout.strip()


def save(each: Seed) -> None:
    """Write it beside the page, a bit for each row and model."""
    values = asdict(each)
    values["num_rows"] = len(next(iter(each.right.values())))
    values["right"] = {
        name: base64.b64encode(np.packbits(rows).tobytes()).decode()
        for name, rows in each.right.items()
    }
    path = _path(each.seed)
    path.parent.mkdir(exist_ok=True)
    write_json(path, values)


def load(seed: int) -> Seed:
    """As `save` wrote it."""
    values = read_json(_path(seed))
    num_rows = values.pop("num_rows")
    values["right"] = {
        name: np.unpackbits(np.frombuffer(base64.b64decode(bits), np.uint8), count=num_rows) == 1
        for name, bits in values["right"].items()
    }
    values["files"] = [
        FileRow(file["name"], file["size_bytes"], tuple(file["speed"])) for file in values["files"]
    ]
    return Seed(**values)


def kept_seeds() -> list[int]:
    """Of which seeds there is a file."""
    return sorted(
        int(path.stem.rpartition("-")[2]) for path in _path(0).parent.glob(_path("*").name)
    )


def _path(seed: int | str) -> Path:
    return FOLDER / "seeds" / f"compression-{seed}.json"
