"""What training rows use of a student: its weights are rounded finer there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.files import write_json
from edgedistill.pipeline.generation.student import NUM_CALIBRATION, Ground

#: Names the rows that calibrated, in the stage's folder.
RECORD = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Training rows as token ids, and what they use of a student: the mean squared input of every
    linear layer, by its name."""

    rows: Sequence[Sequence[int]] = ()
    importance: Mapping[str, np.ndarray] | None = None


def calibrate(ground: Ground, model: Any, folder: Path) -> Calibration:
    """What training rows, taken at even distances, use.

    Writes the rows' ids and the number of their tokens to `RECORD` in `folder`.
    """
    from edgedistill.models.language.importance import mean_squared_inputs

    train = ground.data.rows.train
    places = np.linspace(0, len(train), min(NUM_CALIBRATION, len(train)), endpoint=False)
    rows = [train[int(place)] for place in places]
    encoded = [ground.reader.encoder.encode(row).ids.tolist() for row in rows]
    record = {"rows": [row.id for row in rows], "tokens": sum(len(ids) for ids in encoded)}
    write_json(folder / RECORD, record)
    return Calibration(encoded, mean_squared_inputs(model, encoded))


def told(fallbacks: Mapping[str, str]) -> str:
    """Which formats stood in for the one asked for, as words; "" where none did."""
    counts = Counter(fallbacks.values())
    return ", ".join(f"{counts[kind]} matrices as {kind}" for kind in sorted(counts))
