"""A text and the spans in it that fields are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, order=True)
class Span:
    """Characters `start` up to, not including, `end` of a text, and the field they are."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Document:
    """One row: a unique id, the text, its spans in the order of the text, and the values of its
    labels in the order of the task."""

    id: str
    text: str
    spans: tuple[Span, ...] = ()
    labels: tuple[str, ...] = ()

    def texts_of(self, label: str) -> list[str]:
        """What stands in the spans of a field."""
        return [self.text[span.start : span.end] for span in self.spans if span.label == label]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {"id": self.id, "text": self.text, "spans": spans_as_json(self.spans)}
        return {**values, "labels": list(self.labels)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Document:
        """What `as_json` gave."""
        spans = tuple(Span(*entry) for entry in value["spans"])
        return cls(value["id"], value["text"], spans, tuple(value["labels"]))


def spans_as_json(spans: Sequence[Span]) -> list[list[Any]]:
    """[start, end, label] of each."""
    return [[span.start, span.end, span.label] for span in spans]


@dataclass(frozen=True)
class TextLabel:
    """A label of whole texts: its name, and its values in the order of the model's outputs."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Documents:
    """The rows of a task by split; `outside`: texts that must be refused, by split; `unlabelled`:
    texts that the teacher alone labels; `edge_cases`: hard rows, scored apart; `labels`: those of
    whole texts, in the order of `Document.labels`."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    unlabelled: tuple[str, ...] = ()
    edge_cases: tuple[Document, ...] = ()
    outside: dict[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[TextLabel, ...] = ()

    def split(self, name: str) -> tuple[Document, ...]:
        """The rows of train, validation, test or edge_cases."""
        rows: tuple[Document, ...] = getattr(self, name)
        return rows

    def texts(self, name: str) -> list[str]:
        """The texts of a split."""
        return [row.text for row in self.split(name)]
