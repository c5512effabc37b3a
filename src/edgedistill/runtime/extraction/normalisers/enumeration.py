"""One of a closed list of values, each with the words that mean it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError, shown


class Enumeration:
    """The value whose words these are; case and blanks do not count.

    Reads `values`: each value with further words that mean it.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._values = list(settings["values"])
        self._meanings = {
            _key(word): value
            for value, words in settings["values"].items()
            for word in (value, *words)
        }

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of every value."""
        return {"enum": self._values}

    def __call__(self, text: str) -> str:
        found = self._meanings.get(_key(text))
        if found is None:
            raise NotNormalisedError(f"{shown(text)} is none of the values")
        return str(found)


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
