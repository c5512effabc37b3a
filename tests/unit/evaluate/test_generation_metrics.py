"""Fields, whole records and valid JSON, by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.evaluate.generation_metrics import (
    FieldCounts,
    exact_match,
    field_counts,
    field_f1,
    json_validity,
    paired_ratio_interval,
    parse_record,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
RECORDS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


def counts(right: list[int], predicted: list[int], expected: list[int]) -> FieldCounts:
    return FieldCounts(*(np.array(each, dtype=np.int64) for each in (right, predicted, expected)))


def test_fields_by_hand() -> None:
    expected = [
        {"name": "Ann", "age": 3, "tags": ["a", "b", "b"]},  # 5 fields
        {"order": {"id": 7, "items": [{"sku": "x"}, {"sku": "y"}]}},  # 3
        {"name": "Bob"},  # 1
    ]
    predicted: list[Any] = [
        {"name": "Ann", "age": 4, "tags": ["b", "a", "a"]},  # name, one a, one b: 3 of 5
        {"order": {"items": [{"sku": "y"}, {"sku": "x"}]}, "extra": 1},  # both skus: 2 of 3
        None,
    ]
    found = field_counts(predicted, expected)
    assert found.num_right.tolist() == [3, 2, 0]
    assert found.num_predicted.tolist() == [5, 3, 0]
    assert found.num_expected.tolist() == [5, 3, 1]
    assert found.precision == 5 / 8
    assert found.recall == 5 / 9
    assert found.f1 == field_f1(predicted, expected) == 10 / 17
    assert len(found) == 3


@pytest.mark.parametrize(
    ("predicted", "expected", "num_right"),
    [
        (1, 1.0, 1), (1, True, 0), (0, False, 0), (1, "1", 0), (None, None, 1), (None, "", 0),
        ([], [], 1), ({}, {}, 1), ([], {}, 0), ([], None, 0), ("é", "e\u0301", 0), ([1], 1, 0),
        (10**400, 10**400, 1), ("日本", "日本", 1), ([[1], [2]], [[2], [1]], 2),
    ],
)  # fmt: skip
def test_values_are_equal_as_in_json(predicted: Any, expected: Any, num_right: int) -> None:
    assert field_counts([{"a": predicted}], [{"a": expected}]).num_right[0] == num_right


def test_paths_do_not_collide_with_keys() -> None:
    assert field_f1([{"a.b": 1}], [{"a": {"b": 1}}]) == 0.0
    assert field_f1([{"a": {"item": 1}}], [{"a": [1]}]) == 0.0
    assert field_f1([{"a": {"[]": 1}}], [{"a": [1]}]) == 0.0


def test_nothing_right_or_nothing_said_is_zero() -> None:
    found = field_counts([None, None], [{"a": 1}, {}])
    assert (found.precision, found.recall, found.f1) == (0.0, 0.0, 0.0)
    assert found.num_expected.tolist() == [1, 1]


@pytest.mark.parametrize("pair", [([], []), ([{}], []), ([{}], [None])])
def test_figures_over_nothing_are_refused(pair: tuple[list[Any], list[Any]]) -> None:
    with pytest.raises(ValueError):
        field_counts(*pair)


@settings(deadline=None)
@given(RECORDS, RECORDS)
def test_fields_are_symmetric_and_perfect_for_the_same_record(a: Any, b: Any) -> None:
    again = json.loads(json.dumps(a))
    assert field_f1([again], [a]) == 1.0
    assert exact_match([again], [a]).tolist() == [True]
    assert field_f1([a], [b]) == field_f1([b], [a])
    if exact_match([a], [b])[0]:
        assert field_f1([a], [b]) == 1.0


def test_very_deep_records_are_counted() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert field_f1([{"a": deep}], [{"a": deep}]) == 1.0
    assert exact_match([{"a": deep}], [{"a": deep}]).all()


def test_exact_match_of_texts_and_records() -> None:
    found = exact_match([" yes\n", "Yes", None, "はい"], ["yes", "yes", "yes", "はい"])
    assert found.tolist() == [True, False, False, True]
    records = [{"a": [1, 2], "b": 1}, {"a": [2, 1], "b": 1}, {"a": [1, 2], "b": True}, {"a": [1]}]
    expected = [{"b": 1.0, "a": [1, 2]}] * 4
    assert exact_match(records, expected).tolist() == [True, False, False, False]
    assert exact_match([{}], ["{}"]).tolist() == [False]


@pytest.mark.parametrize(
    ("text", "record"),
    [
        (' {"a": 1}\n', {"a": 1}), ("{}", {}), ('{"é": "日"}', {"é": "日"}),
        ("", None), ("[1]", None), ("null", None), ('{"a": NaN}', None), ('{"a": -Infinity}', None),
        ('{"a": 1', None), ('{"a": 1} and more', None), ("{'a': 1}", None),
        ('{"a":' * 100_000, None), ('{"a": ' + "1" * 10_000 + "}", None),
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_a_record(text: str, record: dict[str, Any] | None) -> None:
    assert parse_record(text) == record
    assert json_validity([text, "{}"]).tolist() == [record is not None, True]


def test_ratio_of_f1_by_hand() -> None:
    teacher, student = counts([4, 4], [4, 4], [4, 4]), counts([4, 2], [4, 4], [4, 4])
    interval = paired_ratio_interval(teacher, student)
    # Half of the resamples hold a row of each kind, a quarter only the first, a quarter the second.
    assert (interval.value, interval.low, interval.high) == (0.75, 0.5, 1.0)


def test_the_bootstrap_is_that_of_drawn_rows() -> None:
    rng = np.random.default_rng(0)
    expected = rng.integers(1, 6, 80)
    right = [rng.integers(0, expected + 1) for _ in range(2)]
    predicted = [r + rng.integers(0, 3, 80) for r in right]
    teacher, student = (FieldCounts(r, p, expected) for r, p in zip(right, predicted, strict=True))
    ratios = []
    for _ in range(4000):
        rows = rng.integers(0, 80, 80)
        drawn = (FieldCounts(*(each[rows] for each in (c.num_right, c.num_predicted, expected)))
                 for c in (student, teacher))  # fmt: skip
        ratios.append(next(drawn).f1 / next(drawn).f1)
    interval = paired_ratio_interval(teacher, student, seed=1)
    assert interval.value == pytest.approx(student.f1 / teacher.f1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)
    assert interval == paired_ratio_interval(teacher, student, seed=1)
    assert interval != paired_ratio_interval(teacher, student, seed=2)


def test_no_loss_seen_is_not_no_loss_proved() -> None:
    same = counts([3] * 10, [3] * 10, [4] * 10)
    interval = paired_ratio_interval(same, same)
    assert interval.value == interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / 10))


def test_a_student_that_only_invents_fields_has_lost() -> None:
    teacher, student = counts([3] * 10, [3] * 10, [3] * 10), counts([3] * 10, [6] * 10, [3] * 10)
    assert paired_ratio_interval(teacher, student).low == pytest.approx(2 / 3)


def test_resamples_without_a_right_teacher_do_not_divide_by_zero() -> None:
    interval = paired_ratio_interval(counts([1, 0], [1, 0], [1, 1]), counts([0, 1], [1, 1], [1, 1]))
    assert interval.low == 0.0
    assert np.isfinite(interval.high)


def test_other_rows_and_a_teacher_without_a_right_field_are_refused() -> None:
    good = counts([1], [1], [1])
    with pytest.raises(ValueError, match="same rows"):
        paired_ratio_interval(good, counts([1], [1], [2]))
    with pytest.raises(ValueError, match="same rows"):
        paired_ratio_interval(good, counts([1, 1], [1, 1], [1, 1]))
    with pytest.raises(ValueError, match="no field right"):
        paired_ratio_interval(counts([0], [1], [1]), good)
