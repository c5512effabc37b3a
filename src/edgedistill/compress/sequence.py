"""Passes one after another on one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.compress.passes import PASSES
from edgedistill.core.errors import CannotApply


@dataclass(frozen=True)
class Applied:
    """The file, the passes that made it with the file after each, and those that were left out,
    each with its reason."""

    file: Path
    passes: tuple[str, ...]
    steps: tuple[Path, ...]
    left_out: Mapping[str, str]


def apply_passes(
    passes: Sequence[str],
    full: Path,
    folder: Path,
    calibration: Sequence[Mapping[str, np.ndarray]],
    *,
    asked_at: Sequence[str] = (),
) -> Applied:
    """Apply `passes` to the export `full`, with the files in between in `folder`.

    Args:
        asked_at: keys of the task file at which a person wrote the passes: then one that has
            nothing to do is an error. Without, it is left out, for a sequence is meant for all
            families.

    Raises:
        CannotApply: of a sequence that was asked for, with the place in it.
    """
    current, applied, left_out = full, tuple[str, ...](), dict[str, str]()
    steps = list[Path]()
    for place, name in enumerate(passes):
        target = folder / f"{'-'.join((*applied, name))}.onnx"
        try:
            current = PASSES.load(name)()(current, to=target, calibration=calibration)
        except CannotApply as error:
            if asked_at:
                where = asked_at[place]
                raise CannotApply(f"{name}: {error.what}", where=where, fix=error.fix) from error
            left_out[name] = error.what
        else:
            applied = (*applied, name)
            steps.append(current)
    return Applied(current, applied, tuple(steps), left_out)
