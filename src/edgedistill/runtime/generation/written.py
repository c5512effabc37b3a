"""Is what a model wrote an answer? Whole, without endless repetition, and as the schema asks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgedistill.core.errors import MissingExtra
from edgedistill.runtime.generation.answer import Reason

#: A piece of this many tokens at most, again and again at the end of an answer, is a loop …
LONGEST_PERIOD = 16
#: … where it stands this often and …
LEAST_REPEATS = 4
#: … fills so many tokens.
LEAST_REPEATED = 24


def fault(
    text: str,
    *,
    finished: bool,
    max_new_tokens: int,
    check: SchemaCheck | None,
) -> tuple[Reason, str] | None:
    """Why `text` is no answer, as (reason, detail); None where it is one.

    No row has an empty response, so an empty answer is never right.
    """
    if (period := repeated_end(text)) is not None:
        return "repeats", f"the text ends in a loop of {period!r}"
    if not finished:
        return "unfinished", f"no end within {max_new_tokens} tokens"
    if not text.strip():
        return "says_nothing", "the answer has no text"
    if check is not None and (problem := check.fault(text)) is not None:
        return "breaks_schema", problem
    return None


def repeated_end(text: str) -> str | None:
    """The piece that the text repeats to its end, or None.

    Words are compared; a text without white space is compared by characters.
    """
    words: Sequence[str] = text.split()
    if len(words) < LEAST_REPEATED:
        words = text if len(words) <= 2 else words
    for period in range(1, LONGEST_PERIOD + 1):
        repeats, end = 1, len(words)
        piece = words[end - period : end]
        while end - period * (repeats + 1) >= 0 and (
            words[end - period * (repeats + 1) : end - period * repeats] == piece
        ):
            repeats += 1
        if repeats >= LEAST_REPEATS and repeats * period >= LEAST_REPEATED:
            return piece if isinstance(piece, str) else " ".join(piece)
    return None


class SchemaCheck:
    """Checks answers against a JSON Schema. Built once, which takes longer than using it.

    Raises:
        MissingExtra: jsonschema is not installed.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            import jsonschema
        except ImportError as error:
            raise MissingExtra("checking answers against a schema", "llm") from error
        self._validator: Any = jsonschema.Draft202012Validator(schema)

    def fault(self, text: str) -> str | None:
        """What is wrong with a text that should be JSON of the schema, or None."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            return f"not JSON: {error}"
        found = next(self._validator.iter_errors(value), None)
        if found is None:
            return None
        place = "/".join(str(part) for part in found.absolute_path)
        return f"{place or 'the answer'}: {found.message}"


def schema_check(schema: Mapping[str, Any] | None) -> SchemaCheck | None:
    """The check of a schema; None where any text will do."""
    return None if schema is None else SchemaCheck(schema)
