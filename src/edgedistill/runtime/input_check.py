"""Refuses what was never meant to be asked, before the model runs."""

from __future__ import annotations

from typing import Any

from edgedistill.runtime.language import LanguageCheck
from edgedistill.runtime.manifest import InputLimits
from edgedistill.runtime.prediction import Prediction, abstention


class InputCheck:
    """Checks type, length and language of an input against the limits of the bundle."""

    def __init__(self, limits: InputLimits, *, num_special: int) -> None:
        self._limits = limits
        self._num_special = num_special
        self._foreign = LanguageCheck(limits.languages).foreign

    def refusal(self, text: Any) -> Prediction | None:
        """The abstention that an input earns by itself, or None. Never raises."""
        if not isinstance(text, str):
            return abstention("wrong_type", f"a text is needed, not {type(text).__name__}")
        num_characters = len(text)
        if num_characters > self._limits.max_characters:
            return abstention(
                "too_long", f"{num_characters} characters, at most {self._limits.max_characters}"
            )
        if not text.isascii() and not _is_encodable(text):
            return abstention("wrong_type", "the text is not valid Unicode (a lone surrogate)")
        num_trimmed = len(text.strip())
        if num_trimmed == 0:
            return abstention("empty", "no characters but white space")
        if num_trimmed < self._limits.min_characters:
            return abstention(
                "too_short", f"{num_trimmed} characters, at least {self._limits.min_characters}"
            )
        foreign = self._foreign(text)
        if foreign is not None:
            expected = ", ".join(self._limits.languages)
            return abstention("wrong_language", f"looks {foreign}, expected {expected}")
        return None

    def token_refusal(self, num_tokens: int) -> Prediction | None:
        """The abstention that a number of tokens (special ones included) earns, or None."""
        if num_tokens > self._limits.max_tokens:
            return abstention("too_long", f"{num_tokens} tokens, at most {self._limits.max_tokens}")
        if num_tokens <= self._num_special:
            return abstention("empty", "no readable characters")
        return None


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
