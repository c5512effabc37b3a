"""Seeds of a benchmark, each kept in a file beside its page.

A seed can take an hour: with `--pool`, a page is made of those that were measured before, too.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgedistill.core.files import write_bytes
from results import FOLDER

Kept = TypeVar("Kept")
_TOLD = "told"


def save(name: str, seed: int, told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Keep a seed of the benchmark `name`: what JSON can hold, and arrays (no objects)."""
    buffer = io.BytesIO()
    text = np.array(json.dumps(told))
    np.savez_compressed(buffer, **{_TOLD: text, **arrays})
    path = _path(name, seed)
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, buffer.getvalue())


def load(name: str, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """As `save` kept it."""
    with np.load(_path(name, seed), allow_pickle=False) as archive:
        arrays = {key: np.asarray(archive[key]) for key in archive.files}
    told: dict[str, Any] = json.loads(str(arrays.pop(_TOLD)))
    return told, arrays


def pooled(
    name: str,
    seeds: Sequence[Kept],
    save: Callable[[Kept], None],
    load: Callable[[int], Kept],
    *,
    pool: bool,
) -> Sequence[Kept]:
    """Keep the seeds by `save`; these, or with `pool` all that are kept, by `load`."""
    for each in seeds:
        save(each)
    return [load(number) for number in kept(name)] if pool else seeds


def kept(name: str) -> list[int]:
    """The seeds that there are."""
    return sorted(
        int(path.stem.removeprefix(f"{name}-"))
        for path in (FOLDER / "seeds").glob(f"{name}-*.npz")
        if path.stem.removeprefix(f"{name}-").isdecimal()
    )


def revision() -> str:
    """Of this checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    return subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    ).stdout.strip()


def _path(name: str, seed: int) -> Path:
    return FOLDER / "seeds" / f"{name}-{seed}.npz"
