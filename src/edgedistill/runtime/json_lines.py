"""Rows of texts for prediction and comparison: JSON Lines with a `text`, or plain lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from edgedistill.core.errors import DataError


def read_rows(lines: Iterable[str], *, where: str, plain: bool = False) -> Iterator[dict[str, Any]]:
    """One row a line, each with a `text`; blank lines are skipped.

    Args:
        lines: the file.
        where: its name, for errors.
        plain: whether lines that are no JSON are texts themselves. The first line decides for
            all, so that a broken row in the middle of JSON Lines is still found.

    Raises:
        DataError: a malformed row, with its line number.
    """
    is_json: bool | None = None if plain else True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if is_json is None:
            is_json = _parsed(line) is not None
        if not is_json:
            yield {"text": line.rstrip("\r\n")}
            continue
        row = _parsed(line)
        if row is None:
            raise DataError(
                "the line is not a JSON object with a 'text'",
                where=f"{where}, line {number}",
                fix='{"text": "…"} on a line of its own',
            )
        yield row


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "text" in row else None
