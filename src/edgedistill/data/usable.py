"""The usable rows of a file, made by a function of each kind of task; the others are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from edgedistill.core.errors import DataError
from edgedistill.data.fields import UnusableRowError, note_id
from edgedistill.data.malformed import MalformedRow, MalformedRows
from edgedistill.data.text_rows import Row


class Identified(Protocol):
    """A row with a unique id."""

    @property
    def id(self) -> str: ...


Made = TypeVar("Made", bound=Identified)


def usable_rows(
    rows: Iterator[Row | MalformedRow],
    make: Callable[[Row], Made],
    malformed: MalformedRows,
    path: Path,
    *,
    require_columns: Callable[[Sequence[str]], None],
) -> tuple[Made, ...]:
    """What `make` gives for each row, in order; what it refuses goes to `malformed`.

    Args:
        make: raises UnusableRowError.
        require_columns: is given all keys that were seen; raises DataError where some are missing.

    Raises:
        DataError: no rows, without the columns, or not one usable row.
    """
    made: list[Made] = []
    keys: dict[str, None] = {}
    lines_by_id: dict[str, int] = {}
    num_rows = 0
    for row in rows:
        num_rows += 1
        if isinstance(row, MalformedRow):
            malformed.add(row)
            continue
        keys.update(dict.fromkeys(row.fields))
        try:
            one = make(row)
            note_id(one.id, row.line, lines_by_id)
        except UnusableRowError as error:
            malformed.add(MalformedRow(str(path), row.line, str(error), row.content))
        else:
            made.append(one)
    if not num_rows:
        raise DataError("the file holds no rows", where=str(path), fix="name a file with rows")
    require_columns(list(keys))
    if not made:
        raise DataError(f"not one row can be used; {malformed.summary()}", where=str(path))
    return tuple(made)
