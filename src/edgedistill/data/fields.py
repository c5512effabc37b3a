"""Single fields of a row: taken as they are, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping


class UnusableRowError(ValueError):
    """Why a row cannot be used."""


def text_field(fields: Mapping[str, object], column: str) -> str:
    """The non-empty text of a column, unchanged; raises UnusableRowError."""
    value = fields.get(column)
    if isinstance(value, str):
        if not value.strip():
            raise UnusableRowError(f"{column!r} is empty")
        if not is_encodable(value):
            raise UnusableRowError(f"{column!r} holds half a surrogate pair, which no text may")
        return value
    if column not in fields:
        raise UnusableRowError(f"no {column!r}")
    if value is None:
        raise UnusableRowError(f"{column!r} is null")
    shown = str(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}…"
    raise UnusableRowError(f"{column!r} is not a text, but {type(value).__name__} {shown}")


def id_field(fields: Mapping[str, object], column: str) -> str:
    """A text or a whole number as a row's id; raises UnusableRowError."""
    value = fields.get(column)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(fields, column)


def parsed_field(fields: Mapping[str, object], column: str) -> object:
    """A field's value; where it is a text (CSV has nothing else), what it says as JSON."""
    value = fields[column]
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UnusableRowError(f"{column!r} is not JSON: {error}") from error


def note_id(identity: str, line: int, lines_by_id: dict[str, int]) -> None:
    """Note where an id stands; raises UnusableRowError where it stood before."""
    first = lines_by_id.setdefault(identity, line)
    if first != line:
        raise UnusableRowError(f"duplicate id {identity[:60]!r}, first on line {first}")


def is_encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
