"""The words themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError


class Text:
    """The words, each run of blanks one space."""

    schema: ClassVar[dict[str, Any]] = {"type": "string", "minLength": 1}

    def __init__(self, settings: Mapping[str, Any]) -> None: ...

    def __call__(self, text: str) -> str:
        words = " ".join(text.split())
        if not words:
            raise NotNormalisedError("no words")
        return words
