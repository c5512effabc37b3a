"""Labels of whole texts, read in the same pass as the fields."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Valued(Protocol):
    """A label with its values, in the order of the model's outputs."""

    @property
    def values(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Label:
    """A label as a bundle knows it: its name, its values, and what divides its logits before the
    softmax (`temperature` > 0)."""

    name: str
    values: tuple[str, ...]
    temperature: float = 1.0

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of what the record holds under its name."""
        return {"type": "string", "enum": list(self.values)}

    def as_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "name": self.name,
            "values": list(self.values),
            "temperature": self.temperature,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Label:
        """What `as_json` gave; raises ValueError, KeyError or TypeError where it is malformed."""
        values = tuple(str(one) for one in value["values"])
        temperature = float(value["temperature"])
        if len(set(values)) < 2 or not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"label {value['name']!r}")
        return cls(str(value["name"]), values, temperature)


@dataclass(frozen=True, slots=True)
class LabelValue:
    """The value of a label, and its calibrated probability in (0, 1]."""

    name: str
    value: str
    confidence: float


def value_columns(labels: Sequence[Valued]) -> list[slice]:
    """Where the values of each label stand in the logits of all, label after label."""
    ends = np.cumsum([0, *(len(label.values) for label in labels)]).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def best_values(labels: Sequence[Valued], logits: np.ndarray) -> np.ndarray:
    """Index of the likeliest value of each label, int64 [n, labels], of logits [n, values]."""
    best = [logits[:, columns].argmax(axis=1) for columns in value_columns(labels)]
    return np.array(best, dtype=np.int64).reshape(len(labels), len(logits)).T


def read_labels(labels: Sequence[Label], logits: np.ndarray) -> tuple[LabelValue, ...]:
    """The likeliest value of each label of one text, of logits [values].

    A confidence is not a number where a logit is none.
    """
    found, end = [], 0
    # Counted up here: for one text, `value_columns` takes as long as all the rest.
    for label in labels:
        start, end = end, end + len(label.values)
        own = logits[start:end].astype(np.float64) / label.temperature
        best = int(own.argmax())
        confidence = 1.0 / float(np.exp(own - own[best]).sum())
        found.append(LabelValue(label.name, label.values[best], confidence))
    return tuple(found)
