"""What a classifier answers to one input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["empty", "too_short", "too_long", "wrong_type", "wrong_language", "out_of_bounds"]
"""Why an input was not answered."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer, or an abstention with its reason.

    `label`, `confidence`: the answer and its calibrated probability in (0, 1]; None if abstained.
    `reason`, `detail`: why it abstained, for machines and for people; None and "" otherwise.
    `score`: out-of-bounds score, higher is further out; None where the model was not asked.
    """

    label: str | None
    confidence: float | None
    abstained: bool
    reason: Reason | None
    detail: str
    score: float | None

    @property
    def answer(self) -> str | None:
        """The label; None if abstained."""
        return self.label

    def as_line(self) -> str:
        """Label and confidence, or why there is none."""
        if self.abstained:
            return f"(abstains: {self.reason}; {self.detail})"
        return f"{self.label}\t{self.confidence:.3f}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; a score that is not finite becomes null."""
        finite = self.score is not None and math.isfinite(self.score)
        return {
            "label": self.label,
            "confidence": self.confidence,
            "abstained": self.abstained,
            "reason": self.reason,
            "detail": self.detail,
            "score": self.score if finite else None,
        }


def abstention(reason: Reason, detail: str, score: float | None = None) -> Prediction:
    """A refusal to answer."""
    return Prediction(None, None, True, reason, detail, score)
