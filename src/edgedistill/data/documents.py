"""Read texts with spans from a file: every row is used, or listed with its place and the reason."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill.core.errors import DataError
from edgedistill.core.extraction import Document, Span
from edgedistill.data.fields import UnusableRowError, id_field, parsed_field, text_field
from edgedistill.data.malformed import MalformedRows
from edgedistill.data.reading import file_rows, refuse_quarantine_in, require_file
from edgedistill.data.text_rows import Row
from edgedistill.data.usable import usable_rows

Fault = Callable[[Document], str | None]
"""What is wrong with a document for a task; None where nothing is."""


@dataclass(frozen=True)
class DocumentColumns:
    """Names of the columns or keys; without `id`, ids are the file's name and the line. In CSV,
    spans are a JSON text. `labels`: of the labels of whole texts."""

    text: str = "text"
    spans: str = "spans"
    id: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        named = (self.text, self.spans, self.id, *self.labels)
        return tuple(dict.fromkeys(name for name in named if name is not None))


def read_documents(
    path: Path,
    *,
    labels: Mapping[str, bool],
    columns: DocumentColumns = DocumentColumns(),
    values: Sequence[Sequence[str] | None] = (),
    quarantine: Path | None = None,
    fault: Fault | None = None,
) -> tuple[Document, ...]:
    """The documents of a .jsonl, .csv, .tsv or .parquet file, in their order.

    A span is {start, end, label}, characters of the text from 0, the end not included; a `text`
    beside them must be what stands there. Spans may come in any order; they must not overlap, nor
    begin or end with a blank.

    Args:
        path: the file.
        labels: the fields of the task, and whether a text may have several of each.
        columns: names of its columns.
        values: what each of `columns.labels` may hold; None: any text.
        quarantine: where malformed rows are set aside (see `MalformedRows`); None refuses them.
        fault: what else makes a row malformed.

    Raises:
        DataError: no such file, of no known form, empty, without the columns, without one
            usable row, or with malformed rows and no quarantine.
        MissingExtra: a Parquet file, and pyarrow is not installed.
        StorageError: the quarantine cannot be written.
    """
    require_file(path)
    refuse_quarantine_in(quarantine, [path])

    def make(row: Row) -> Document:
        document = _document(row, columns, labels, path.name)
        document = replace(document, labels=_labels(row, columns.labels, values))
        if fault is not None and (problem := fault(document)) is not None:
            raise UnusableRowError(problem)
        return document

    with MalformedRows(quarantine) as malformed:
        return usable_rows(
            file_rows(path, columns), make, malformed, path,
            require_columns=lambda keys: _require_columns(columns, keys, path),
        )  # fmt: skip


def _document(
    row: Row, columns: DocumentColumns, labels: Mapping[str, bool], prefix: str
) -> Document:
    identity = id_field(row.fields, columns.id) if columns.id else f"{prefix}:{row.line}"
    text = text_field(row.fields, columns.text)
    if columns.spans not in row.fields:
        raise UnusableRowError(f"no {columns.spans!r}; a text without any has an empty list")
    entries = parsed_field(row.fields, columns.spans)
    if not isinstance(entries, list):
        raise UnusableRowError(f"{columns.spans!r} is not a list of spans")
    spans = []
    for number, entry in enumerate(entries, 1):
        try:
            spans.append(_span(entry, text, labels))
        except UnusableRowError as error:
            raise UnusableRowError(f"span {number}: {error}") from error
    return Document(identity, text, _apart(sorted(spans), text, labels))


def _labels(
    row: Row, columns: Sequence[str], values: Sequence[Sequence[str] | None]
) -> tuple[str, ...]:
    """The values of the labels of whole texts."""
    found = []
    for column, known in zip(columns, values, strict=True):
        value = text_field(row.fields, column)
        if known is not None and value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {len(known)} others"
            raise UnusableRowError(f"{column!r} is {value[:60]!r}, no value of the label; {hint}")
        found.append(value)
    return tuple(found)


def _span(entry: Any, text: str, labels: Collection[str]) -> Span:
    if not isinstance(entry, dict):
        raise UnusableRowError("it is not an object with start, end and label")
    start, end = (_place(entry, key) for key in ("start", "end"))
    label = text_field(entry, "label")
    if label not in labels:
        near = difflib.get_close_matches(label, labels, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnusableRowError(f"the task has no field {label[:60]!r}{hint}")
    if not 0 <= start < end <= len(text):
        raise UnusableRowError(f"{start} to {end} is no part of {len(text)} characters")
    words = text[start:end]
    if words != words.strip():
        raise UnusableRowError(f"{words[:40]!r} begins or ends with a blank")
    said = entry.get("text")
    if said is not None and said != words:
        raise UnusableRowError(f"its text is {str(said)[:40]!r}, but {words[:40]!r} stands there")
    return Span(start, end, label)


def _place(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UnusableRowError(f"{key!r} is {value!r:.40}, not a whole number")
    return value


def _apart(spans: Sequence[Span], text: str, labels: Mapping[str, bool]) -> tuple[Span, ...]:
    for one, other in itertools.pairwise(spans):
        if other.start < one.end:
            shown = [f"{s.label} {text[s.start : s.end][:40]!r}" for s in (one, other)]
            raise UnusableRowError(f"spans overlap: {shown[0]} and {shown[1]}")
    for label, num in Counter(span.label for span in spans).items():
        if num > 1 and not labels[label]:
            raise UnusableRowError(
                f"{num} spans of {label!r}, of which the task allows one (set many: true)"
            )
    return tuple(spans)


def _require_columns(columns: DocumentColumns, keys: Sequence[str], path: Path) -> None:
    named = [(f"data.{key}_column", getattr(columns, key)) for key in ("text", "spans", "id")]
    named += [(f"output.labels.{i}.column", name) for i, name in enumerate(columns.labels)]
    for key, name in named:
        if keys and name is not None and name not in keys:
            near = difflib.get_close_matches(name, keys, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            shown = ", ".join(repr(known[:60]) for known in keys[:10])
            raise DataError(
                f"no row has the column {name!r}",
                where=str(path),
                fix=f"{hint}set {key} to one of: {shown}",
            )
