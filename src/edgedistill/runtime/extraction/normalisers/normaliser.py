"""What every normaliser satisfies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class NotNormalisedError(ValueError):
    """Why words do not give the value that a field asks for."""


class Normaliser(Protocol):
    """Turns the words of a span into a value of JSON.

    Made from the settings of its field (`FieldSpec.settings`). `schema`: JSON Schema that every
    value meets.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None: ...

    @property
    def schema(self) -> dict[str, Any]: ...

    def __call__(self, text: str) -> Any:
        """The value; raises NotNormalisedError."""
        ...


def shown(text: str) -> str:
    """A text as it stands in a message."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
