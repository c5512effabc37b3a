"""What a regular expression takes of the words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError, shown


class Pattern:
    """The first group of `pattern`, or all where it has none; it must match the whole span.

    Nothing but blanks around the words is taken off first.
    """

    schema: ClassVar[dict[str, Any]] = {"type": "string"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._pattern = re.compile(settings["pattern"])

    def __call__(self, text: str) -> str:
        match = self._pattern.fullmatch(text.strip())
        value = match and match[min(1, self._pattern.groups)]
        if value is None:
            raise NotNormalisedError(f"{shown(text)} does not match {self._pattern.pattern}")
        return value
