"""How right generated records are: fields, whole records, and whether they are JSON at all.

A record is what a JSON text holds. Its fields are (path, value) pairs: `{"a": {"b": [1, 2]}}` has
`a.b[] = 1` and `a.b[] = 2`. The order of a list does not count, how often a value occurs does. So
fields do not see which item of a list of objects a value belongs to; `exact_match` does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.intervals import rate_lower_bound

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FieldCounts:
    """Fields of each record, int64 [num_rows]: predicted and right, predicted, expected."""

    num_right: Ints
    num_predicted: Ints
    num_expected: Ints

    def __len__(self) -> int:
        return len(self.num_right)

    @property
    def precision(self) -> float:
        """Share of the predicted fields that are right; 0 where none is predicted."""
        return float(self.num_right.sum() / max(1, self.num_predicted.sum()))

    @property
    def recall(self) -> float:
        """Share of the expected fields that are found; 0 where none is expected."""
        return float(self.num_right.sum() / max(1, self.num_expected.sum()))

    @property
    def f1(self) -> float:
        """Micro F1: twice the right fields over the predicted and the expected ones."""
        both = self.num_predicted.sum() + self.num_expected.sum()
        return float(2 * self.num_right.sum() / max(1, both))


def field_counts(predicted: Sequence[Any], expected: Sequence[Any]) -> FieldCounts:
    """Compare records pair by pair; None stands for a prediction that is no record.

    Values are equal as in JSON: 1 and 1.0 are, 1 and true or "1" are not, strings code point by
    code point. An empty object, an empty list and null are values, so that "nothing there" can
    be right or wrong too, and every record has a field at least.

    Raises:
        ValueError: unequal or empty sequences, or an expected record that is None.
    """
    _require_pairs(predicted, expected)
    counts = np.zeros((len(expected), 3), dtype=np.int64)
    for i, (found, wanted) in enumerate(zip(predicted, expected, strict=True)):
        if wanted is None:
            raise ValueError(f"row {i} expects no record")
        fields = Counter(_fields(wanted))
        given = Counter(() if found is None else _fields(found))
        counts[i] = (fields & given).total(), given.total(), fields.total()
    return FieldCounts(*counts.T.copy())


def field_f1(predicted: Sequence[Any], expected: Sequence[Any]) -> float:
    """Micro F1 over the fields of all records; see `field_counts`."""
    return field_counts(predicted, expected).f1


def exact_match(predicted: Sequence[Any], expected: Sequence[Any]) -> Bools:
    """Which rows are wholly right, bool [num_rows].

    Texts are compared without the white space around them. Records are compared as JSON: the
    order of keys does not count, that of lists does. None is never right.
    """
    _require_pairs(predicted, expected)
    pairs = zip(predicted, expected, strict=True)
    return np.array([found is not None and _same(found, wanted) for found, wanted in pairs])


def parse_record(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is, with nothing but white space around it; None otherwise.

    NaN and Infinity, which Python would read, are not JSON.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def json_validity(texts: Sequence[str]) -> Bools:
    """Which texts are JSON objects, bool [num_rows]."""
    return np.array([parse_record(text) is not None for text in texts], dtype=bool)


def paired_ratio_interval(
    teacher: FieldCounts,
    student: FieldCounts,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Student F1 over teacher F1 on the same rows, by a paired bootstrap over rows.

    As `intervals.retention_interval`, whose remarks hold here too: percentiles, rows of like
    counts drawn together (the same bootstrap, not an approximation), a resample in which the
    teacher has no right field counts as if it had one. Where the student does worse on no row,
    the lower bound is at most the exact bound of a loss not seen in the rows of the teacher's
    right fields; as if a lost row cost as much as any other.

    Raises:
        ValueError: other rows, or a teacher without a right field.
    """
    if not np.array_equal(teacher.num_expected, student.num_expected) or not len(teacher):
        raise ValueError("teacher and student were not counted on the same rows")
    if not teacher.num_right.any():
        raise ValueError("the teacher has no field right: retention has no meaning")
    columns = [
        teacher.num_right, teacher.num_predicted, student.num_right, student.num_predicted,
        teacher.num_expected,
    ]  # fmt: skip
    kinds, frequencies = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(teacher), frequencies / len(teacher), size=num_resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(_ratio(drawn @ kinds), [tail, 1 - tail])
    value = float(_ratio((frequencies @ kinds)[None])[0])
    interval = Interval(value, float(low), float(high))
    worse = (student.num_right < teacher.num_right) | (_wrong(student) > _wrong(teacher))
    if worse.any():
        return interval
    num_kept = int(np.count_nonzero(teacher.num_right))
    no_loss_seen = rate_lower_bound(num_kept, num_kept, confidence=0.5 + confidence / 2)
    return replace(interval, low=min(interval.low, no_loss_seen))


def _ratio(sums: Ints) -> Floats:
    """F1 ratios of summed columns [num, 5], in the order of `paired_ratio_interval`."""
    teacher_right, teacher_predicted, right, predicted, expected = sums.T
    teacher = np.maximum(teacher_right, 1) / (teacher_predicted + expected)
    return np.asarray(right / (predicted + expected) / teacher, dtype=np.float64)


def _wrong(counts: FieldCounts) -> Ints:
    return counts.num_predicted - counts.num_right


def _fields(record: Any) -> Iterator[Hashable]:
    """(path, value) pairs of a record; a loop, since what models write can nest deeply."""
    waiting: list[tuple[tuple[Hashable, ...], Any]] = [((), record)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and value:
            waiting += (((*path, ("key", key)), inner) for key, inner in value.items())
        elif isinstance(value, list) and value:
            waiting += (((*path, "item"), inner) for inner in value)
        else:
            yield path, _leaf(value)


def _leaf(value: Any) -> Hashable:
    """A value with its JSON type, in which 1 and 1.0 are one and 1 and true are two."""
    if isinstance(value, dict | list):
        return "empty", type(value).__name__
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", value if value == value else "nan"
    return type(value).__name__, value


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return found.strip() == wanted.strip()
    waiting = [(found, wanted)]
    while waiting:
        a, b = waiting.pop()
        if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
            waiting += ((a[key], b[key]) for key in a)
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            waiting += zip(a, b, strict=True)
        elif isinstance(a, dict | list) or isinstance(b, dict | list) or _leaf(a) != _leaf(b):
            return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _require_pairs(predicted: Sequence[Any], expected: Sequence[Any]) -> None:
    if len(predicted) != len(expected) or not expected:
        raise ValueError(
            f"need two equally long, non-empty lists, got {len(predicted)} and {len(expected)}"
        )
