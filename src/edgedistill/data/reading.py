"""Read examples from a file: every row is used, or listed with its place and the reason."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgedistill.core.artefacts import Example
from edgedistill.core.errors import DataError
from edgedistill.data.fields import UnusableRowError, id_field, note_id, text_field
from edgedistill.data.malformed import MalformedRow, MalformedRows
from edgedistill.data.parquet_rows import parquet_rows
from edgedistill.data.text_rows import Row, delimited_rows, jsonl_rows

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Columns:
    """Names of the columns or keys; without `id`, ids are the source's name and the line.

    `group`: a column that rows may have (not in Parquet); it is read as the label of rows that
    are otherwise without one, to report on groups apart.
    """

    text: str
    label: str | None = None
    id: str | None = None
    group: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return tuple(dict.fromkeys(n for n in (self.text, self.label, self.id) if n is not None))


class NamedColumns(Protocol):
    """The columns that are read where a file keeps them apart (Parquet)."""

    @property
    def names(self) -> tuple[str, ...]: ...


def read_examples(
    path: Path,
    *,
    text_column: str,
    label_column: str | None,
    id_column: str | None = None,
    quarantine: Path | None = None,
) -> tuple[Example, ...]:
    """The rows of a .jsonl, .csv, .tsv or .parquet file, in their order.

    Files are read line by line or batch by batch. Text and label must be non-empty texts, ids
    texts or whole numbers; nothing is trimmed or changed.

    Args:
        path: the file.
        text_column: column or key with the input.
        label_column: column or key with the label; None leaves labels out.
        id_column: column or key with a unique id; None makes ids `NAME:LINE`.
        quarantine: where malformed rows are set aside (see `MalformedRows`); None refuses them.

    Raises:
        DataError: no such file, of no known form, empty, without the columns, without one
            usable row, or with malformed rows and no quarantine.
        MissingExtra: a Parquet file, and pyarrow is not installed.
        StorageError: the quarantine cannot be written.
    """
    require_file(path)
    refuse_quarantine_in(quarantine, [path])
    columns = Columns(text_column, label_column, id_column)
    with MalformedRows(quarantine) as malformed:
        return examples_of(
            file_rows(path, columns), columns, malformed, file=str(path), id_prefix=path.name
        )


def require_file(path: Path) -> None:
    """Raise DataError, with what might be meant, unless `path` is a file of a known form."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), fix=_near_names(path)) from error
    except (OSError, ValueError) as error:  # no right to look, a name no system takes, a loop
        raise DataError(f"cannot be read ({error})", where=str(path)) from error
    if stat.S_ISDIR(mode):
        raise DataError("this is a folder", where=str(path), fix="name a file in it")
    if not stat.S_ISREG(mode):
        raise DataError("not a regular file", where=str(path), fix="save the rows as a file")
    if path.suffix.lower() not in FORMATS:
        raise DataError(
            f"files of the form {path.suffix or '(no suffix)'!r} cannot be read",
            where=str(path),
            fix=f"one of: {', '.join(FORMATS)}",
        )


def refuse_quarantine_in(quarantine: Path | None, sources: Iterable[Path]) -> None:
    """Raise DataError if the quarantine is one of the files that are read."""
    if quarantine and quarantine.exists():
        for source in sources:
            if quarantine.samefile(source):
                raise DataError(
                    "the quarantine is a file that is read",
                    where=str(quarantine),
                    fix="give the quarantine another name",
                )


def file_rows(path: Path, columns: NamedColumns) -> Iterator[Row | MalformedRow]:
    """Raw rows of a file, by the form that its suffix names."""
    try:
        match path.suffix.lower():
            case ".jsonl":
                yield from jsonl_rows(path)
            case ".parquet":
                yield from parquet_rows(path, columns.names)
            case suffix:
                yield from delimited_rows(path, "\t" if suffix == ".tsv" else ",")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=str(path)) from error


def examples_of(
    rows: Iterable[Row | MalformedRow],
    columns: Columns,
    malformed: MalformedRows,
    *,
    file: str,
    id_prefix: str,
) -> tuple[Example, ...]:
    """The usable rows as examples; the others go to `malformed`.

    Raises:
        DataError: no rows, a column that no row has, or not one usable row.
    """
    examples: list[Example] = []
    never_seen = set(columns.names)
    keys: dict[str, None] = {}
    lines_by_id: dict[str, int] = {}
    num_rows = 0
    for row in rows:
        num_rows += 1
        if isinstance(row, MalformedRow):
            malformed.add(row)
            continue
        if never_seen:
            never_seen.difference_update(row.fields)
            keys.update(dict.fromkeys(row.fields))
        try:
            example = _example(row, columns, id_prefix)
            if columns.id is not None:
                note_id(example.id, row.line, lines_by_id)
        except UnusableRowError as error:
            malformed.add(MalformedRow(file, row.line, str(error), row.content))
        else:
            examples.append(example)
    if not num_rows:
        raise DataError("the file holds no rows", where=file, fix="name a file with rows")
    if never_seen and keys:
        raise _missing_column(sorted(never_seen)[0], columns, list(keys), file)
    if not examples:
        raise DataError(f"not one row can be used; {malformed.summary()}", where=file)
    return tuple(examples)


def _example(row: Row, columns: Columns, id_prefix: str) -> Example:
    text = text_field(row.fields, columns.text)
    label = None if columns.label is None else text_field(row.fields, columns.label)
    group = row.fields.get(columns.group) if columns.group else None
    if isinstance(group, str) and group.strip():
        label = group
    if columns.id is None:
        return Example(f"{id_prefix}:{row.line}", text, label)
    return Example(id_field(row.fields, columns.id), text, label)


def _missing_column(name: str, columns: Columns, keys: list[str], file: str) -> DataError:
    role = next(role for role in ("text", "label", "id") if getattr(columns, role) == name)
    near = difflib.get_close_matches(name, keys, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(repr(key[:60]) for key in keys[:10])
    return DataError(
        f"no row has the column {name!r}",
        where=file,
        fix=f"{hint}set data.{role}_column to one of: {shown}",
    )


def _near_names(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in FORMATS)
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5) or names[:5]
    if not near:
        return f"{folder} holds no file of the forms {', '.join(FORMATS)}"
    return f"did you mean {' or '.join(near)}?"
