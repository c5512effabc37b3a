"""What a generator answers to one prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal[
    "empty", "too_short", "too_long", "wrong_type", "wrong_language", "out_of_bounds",
    "unfinished", "repeats", "says_nothing", "breaks_schema",
]  # fmt: skip
"""Why there is no answer: the first six are found before the model has written anything or
from how sure it was, the last four in what it wrote."""


@dataclass(frozen=True, slots=True)
class GeneratedText:
    """One answer, or an abstention with its reason.

    `text`: the answer; None if abstained. `reason`, `detail`: why it abstained, for machines and
    for people; None and "" otherwise. `score`: out-of-bounds score, higher is further out; None
    where the model was not asked. `num_prompt_tokens`, `num_new_tokens`: what was read and
    written.
    """

    text: str | None
    abstained: bool
    reason: Reason | None
    detail: str
    score: float | None
    num_prompt_tokens: int = 0
    num_new_tokens: int = 0

    @property
    def answer(self) -> str | None:
        """The text; None if abstained."""
        return self.text

    def as_line(self) -> str:
        """The answer on one line, or why there is none."""
        if self.abstained:
            return f"(abstains: {self.reason}; {self.detail})"
        return " ".join((self.text or "").split())

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; a score that is not finite becomes null."""
        finite = self.score is not None and math.isfinite(self.score)
        return {
            "answer": self.text,
            "abstained": self.abstained,
            "reason": self.reason,
            "detail": self.detail,
            "score": self.score if finite else None,
            "num_prompt_tokens": self.num_prompt_tokens,
            "num_new_tokens": self.num_new_tokens,
        }


def abstention(
    reason: Reason, detail: str, score: float | None = None, *, num_prompt: int = 0,
    num_new: int = 0,
) -> GeneratedText:  # fmt: skip
    """A refusal to answer."""
    return GeneratedText(None, True, reason, detail, score, num_prompt, num_new)
