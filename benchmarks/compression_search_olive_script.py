"""What Olive's own process asks of us: rows to calibrate with, rows to score, a class of logits.

Olive loads this file by its path (`user_script`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from olive.data.component.dataset import BaseDataset
from olive.data.registry import Registry
from torch import Tensor


def _inputs(ids: Sequence[int]) -> dict[str, np.ndarray]:
    row = np.array(ids, np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row)}


def _rows(path: str, name: str) -> list[Any]:
    rows: list[Any] = json.loads(Path(path).read_text(encoding="utf-8"))[name]
    return rows


@Registry.register_dataset()
def calibration_rows(path: str, **_: Any) -> BaseDataset:
    """Training texts as inputs of the graph, one a row, all of one length: its histograms of
    several rows need like shapes."""
    rows = [_inputs(ids) for ids in _rows(path, "calibration")]
    longest = max(len(row["input_ids"]) for row in rows)
    return BaseDataset([
        {name: np.pad(ids, (0, longest - len(ids))) for name, ids in row.items()} for row in rows
    ])  # fmt: skip


@Registry.register_dataset()
def validation_rows(path: str, **_: Any) -> BaseDataset:
    """Validation texts as inputs of the graph, with their classes. Olive times the first one: it
    is the one of median length."""
    rows = list(zip(_rows(path, "validation"), _rows(path, "targets"), strict=True))
    middle = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))[len(rows) // 2]
    rows[0], rows[middle] = rows[middle], rows[0]
    return BaseDataset([(_inputs(ids), target) for ids, target in rows])


@Registry.register_post_process()
def class_of_logits(outputs: dict[str, Tensor], **_: Any) -> Tensor:
    """The graph gives features, too."""
    return outputs["logits"].argmax(-1)
