"""What an extractor answers to one text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgedistill.runtime.extraction.labels import LabelValue

Reason = Literal[
    "empty", "too_short", "too_long", "wrong_type", "wrong_language", "out_of_bounds",
    "missing_field",
]  # fmt: skip
"""Why a text has no record: the first six as for other kinds; `missing_field`: a required field was
not found, or abstains."""

FieldReason = Literal["unsure", "not_normalised", "another_is_surer"]
"""Why the words of a span give no value: the model is too unsure of them; they are no date, number,
… as the field asks; the field takes one value, and another span is surer."""


@dataclass(frozen=True, slots=True)
class FieldValue:
    """One span: its field, its words and place in the text, and the value that they give.

    `value`: of JSON, normalised; None if abstained. `confidence`: calibrated probability of the
    least sure of its tokens, in (0, 1]. `reason`, `detail`: why it abstained, for machines and for
    people; None and "" otherwise.
    """

    name: str
    text: str
    start: int
    end: int
    value: Any
    confidence: float
    abstained: bool = False
    reason: FieldReason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The record of a text, or an abstention with its reason.

    `record`: values by label and field, by the schema of the task; None if abstained. `fields`:
    every span that was found, in the order of the text; also of a text whose record lacks a
    required one, as are `labels`, those of the whole text. `confidence`: probability of the least
    sure of its tags and labels. `score`: out-of-bounds score,
    higher is further out; None where the model was not asked.
    """

    record: Mapping[str, Any] | None
    fields: tuple[FieldValue, ...]
    confidence: float | None
    abstained: bool
    reason: Reason | None
    detail: str
    score: float | None
    labels: tuple[LabelValue, ...] = ()

    @property
    def answer(self) -> str | None:
        """The record as JSON on one line; None if abstained."""
        if self.record is None:
            return None
        return json.dumps(self.record, ensure_ascii=False, separators=(",", ":"))

    def as_line(self) -> str:
        """The record as JSON, or why there is none."""
        if self.abstained:
            return f"(abstains: {self.reason}; {self.detail})"
        return self.answer or "{}"

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not finite becomes null."""
        values = {
            "record": None if self.record is None else dict(self.record),
            "labels": [asdict(one) for one in self.labels],
            "fields": [asdict(one) for one in self.fields],
            "confidence": self.confidence,
            "abstained": self.abstained,
            "reason": self.reason,
            "detail": self.detail,
            "score": self.score,
        }
        for key in ("confidence", "score"):
            if values[key] is not None and not math.isfinite(float(values[key])):  # type: ignore[arg-type]
                values[key] = None
        return values


def abstention(
    reason: Reason, detail: str, score: float | None = None, confidence: float | None = None,
    fields: tuple[FieldValue, ...] = (), labels: tuple[LabelValue, ...] = (),
) -> Extraction:  # fmt: skip
    """A refusal to answer."""
    return Extraction(None, fields, confidence, True, reason, detail, score, labels)
