"""Rows of Hugging Face data sets; the `datasets` library is imported on use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from edgedistill.core.artefacts import Example
from edgedistill.core.errors import DataError, MissingExtra
from edgedistill.data.malformed import MalformedRow, MalformedRows
from edgedistill.data.reading import Columns, examples_of
from edgedistill.data.text_rows import Row

SPLITS = ("train", "validation", "test")
_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def read_hub(
    dataset_id: str, columns: Columns, malformed: MalformedRows
) -> dict[str, tuple[Example, ...]]:
    """Examples of the splits train, validation and test, as far as the data set has them.

    Label columns that hold class numbers are read as the names of the classes. Ids are
    `SPLIT:ROW` unless `columns.id` is given.

    Raises:
        DataError: not a data set id, not reachable, without a split `train`, or unusable rows.
        MissingExtra: `datasets` is not installed.
    """
    if not _ID.fullmatch(dataset_id):
        raise DataError(
            f"{dataset_id!r} is not a data set id",
            fix="data.hub takes NAME or ORGANISATION/NAME; local files go to data.files",
        )
    splits = _load(dataset_id)
    if "train" not in splits:
        raise DataError(
            f"the data set {dataset_id!r} has no split 'train', only: {', '.join(splits)}",
            fix="save its splits as files and name them in data.files",
        )
    return {
        name: examples_of(
            _rows(splits[name], columns, f"hub:{dataset_id}/{name}"),
            columns,
            malformed,
            file=f"hub:{dataset_id}/{name}",
            id_prefix=name,
        )
        for name in SPLITS
        if name in splits
    }


def _load(dataset_id: str) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("reading Hugging Face data sets", "hub") from error
    try:
        loaded: Any = datasets.load_dataset(dataset_id)
    except Exception as error:  # the library raises dozens of kinds, its dependencies' among them
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"the data set {dataset_id!r} cannot be loaded: {reason[0]}",
            fix="without a connection, save its splits as .jsonl, .csv or .parquet files on a "
            "connected machine and name them in data.files instead of data.hub",
        ) from error
    splits: Mapping[str, Any] = loaded
    return splits


def _rows(split: Any, columns: Columns, place: str) -> Iterator[Row | MalformedRow]:
    label = columns.label
    names = getattr(split.features.get(label), "names", None)
    for line, fields in enumerate(split, start=1):
        content = partial(_as_json, fields)
        if label is None or names is None:
            yield Row(line, fields, content)
            continue
        number = fields[label]
        if number is None or not 0 <= number < len(names):
            reason = f"{label!r} is {number}, which is no class of the data set"
            yield MalformedRow(place, line, reason, content)
        else:
            yield Row(line, {**fields, label: names[number]}, content)


def _as_json(fields: Mapping[str, object], default: Callable[[object], str] = str) -> list[bytes]:
    return [json.dumps(fields, ensure_ascii=False, default=default).encode("utf-8", "replace")]
