"""The fields of a task, as a bundle knows them, and the JSON Schema of its records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgedistill.core.errors import BundleError
from edgedistill.runtime.extraction.labels import Label
from edgedistill.runtime.extraction.normalisers.catalogue import NORMALISERS
from edgedistill.runtime.extraction.normalisers.normaliser import (
    Normaliser,
    NotNormalisedError,
    shown,
)
from edgedistill.runtime.manifest import MANIFEST

#: Longer words are no number, amount or date; the expressions that find them need a bound.
MOST_CHARACTERS = 200
_UNBOUNDED = ("text", "pattern")


@dataclass(frozen=True, eq=False)
class Field:
    """One field: its name, what its words become (`normaliser` with its `settings`), whether a
    text may have `many`, whether every record has it."""

    name: str
    normaliser: str = "text"
    many: bool = False
    required: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    _normalise: Normaliser = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kind = NORMALISERS.load(self.normaliser)
        object.__setattr__(self, "_normalise", kind(self.settings))

    def value(self, text: str) -> Any:
        """What the words become, a value of JSON; raises NotNormalisedError."""
        if len(text) > MOST_CHARACTERS and self.normaliser not in _UNBOUNDED:
            raise NotNormalisedError(f"{shown(text)} is too long for a {self.normaliser}")
        return self._normalise(text)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of what the record holds under its name."""
        value = dict(self._normalise.schema)
        return {"type": "array", "items": value, "minItems": 1} if self.many else value

    def as_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "name": self.name,
            "normaliser": self.normaliser,
            "many": self.many,
            "required": self.required,
            "settings": dict(self.settings),
        }


def record_schema(fields: Sequence[Field], labels: Sequence[Label] = ()) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every record meets."""
    properties = {label.name: label.schema for label in labels}
    properties |= {one.name: one.schema for one in fields}
    required = [label.name for label in labels]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required + [one.name for one in fields if one.required],
        "additionalProperties": False,
    }


@dataclass(frozen=True)
class ExtractionSettings:
    """What an extraction bundle needs beside its files.

    `whole_words`: in training, no span began or ended within a word, so none does in an answer.
    `least_confidence`: a field below it abstains. `labels`: of whole texts, in the order of their
    logits.
    """

    fields: tuple[Field, ...]
    whole_words: bool
    least_confidence: float
    labels: tuple[Label, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for the manifest; the schema of the records is for readers."""
        return {
            "fields": [one.as_json() for one in self.fields],
            "whole_words": self.whole_words,
            "least_confidence": self.least_confidence,
            "labels": [one.as_json() for one in self.labels],
            "schema": record_schema(self.fields, self.labels),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ExtractionSettings:
        """What `as_json` gave; raises BundleError where it is malformed."""
        try:
            return cls(
                tuple(Field(**entry) for entry in value["fields"]),
                bool(value["whole_words"]),
                float(value["least_confidence"]),
                tuple(Label.from_json(entry) for entry in value.get("labels", ())),
            )
        except Exception as error:  # a regular expression, a catalogue, a key: all are the file's
            raise BundleError(
                f"the settings of extraction are malformed: {type(error).__name__} {error}",
                where=MANIFEST,
                fix="make the bundle again",
            ) from error
