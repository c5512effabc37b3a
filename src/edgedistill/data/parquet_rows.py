"""Raw rows of Parquet files, batch by batch; pyarrow is imported on use."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from edgedistill.core.errors import DataError, MissingExtra
from edgedistill.data.malformed import MalformedRow
from edgedistill.data.text_rows import MAX_LINE_BYTES, Row

_BATCH_ROWS = 256


def parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row | MalformedRow]:
    """Rows of a Parquet file with the given columns; `line` is the row's number from 1.

    Raises:
        DataError: not a Parquet file, or a damaged one.
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet files", "train") from error
    try:
        with parquet.ParquetFile(path) as file:
            first = 1
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from _batch_rows(pyarrow, path, batch, first, columns)
                first += batch.num_rows
    except (pyarrow.lib.ArrowException, OSError) as error:
        raise DataError(f"not a readable Parquet file: {error}", where=str(path)) from error


def _batch_rows(
    pyarrow: Any, path: Path, batch: Any, first: int, columns: tuple[str, ...]
) -> Iterator[Row | MalformedRow]:
    names = batch.schema.names
    present = [name for name in columns if name in names]
    values = {name: _values(pyarrow, batch.column(names.index(name))) for name in present}
    others = dict.fromkeys(name for name in names if name not in values)
    for index in range(batch.num_rows):
        content = partial(_row_as_json, pyarrow, batch, index)
        fields: dict[str, object] = {name: values[name][index] for name in present}
        try:
            decoded = {name: _decoded(name, value) for name, value in fields.items()}
        except ValueError as error:
            yield MalformedRow(str(path), first + index, str(error), content)
        else:
            yield Row(first + index, decoded | others, content)


class _Utf8(bytes):
    """Bytes of a text column: Arrow does not check that they are UTF-8."""


def _values(pyarrow: Any, column: Any) -> list[object]:
    """The column's values, texts as undecoded bytes."""
    types = pyarrow.types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        raw = column.cast(pyarrow.large_binary()).to_pylist()
        return [None if value is None else _Utf8(value) for value in raw]
    values: list[object] = column.to_pylist()
    return values


def _decoded(name: str, value: object) -> object:
    if not isinstance(value, _Utf8):
        return value
    if len(value) > MAX_LINE_BYTES:
        raise ValueError(f"{name!r} is longer than 1 MB")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name!r} is not valid UTF-8 (byte {error.start + 1})") from error


def _row_as_json(pyarrow: Any, batch: Any, index: int) -> Iterator[bytes]:
    """All columns of one row as a JSON object; what is no text as `{"base64": …}`."""
    row = batch.slice(index, 1)
    fields = {
        name: _json_value(_values(pyarrow, row.column(position))[0])
        for position, name in enumerate(batch.schema.names)
    }
    yield json.dumps(fields, ensure_ascii=False, default=_json_value).encode()


def _json_value(value: object) -> object:
    if isinstance(value, _Utf8):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if value is None or isinstance(value, (str, int, float, list, dict)):
        return value
    return str(value)
