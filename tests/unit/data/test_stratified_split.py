"""The split: shares are kept, every label is everywhere, equal texts stay together."""

from __future__ import annotations

import random

import pytest

from edgedistill.core.artefacts import Example
from edgedistill.core.errors import DataError
from edgedistill.data.splitting import stratified_split

SHARES = {"validation": 0.15, "test": 0.15}


def examples(**counts: int) -> list[Example]:
    return [
        Example(f"{label}{i}", f"{label} text number {i}", label)
        for label, count in counts.items()
        for i in range(count)
    ]


def count(rows: tuple[Example, ...]) -> dict[str, int]:
    return {
        label: sum(r.label == label for r in rows)
        for label in sorted({r.label or "" for r in rows})
    }


def test_no_row_is_lost_and_order_is_kept() -> None:
    rows = examples(a=40, b=7, c=3)
    parts = stratified_split(rows, SHARES, seed=0)
    assert list(parts) == ["train", "validation", "test"]
    joined = [row for part in parts.values() for row in part]
    assert sorted(row.id for row in joined) == sorted(row.id for row in rows)
    for part in parts.values():
        assert [rows.index(row) for row in part] == sorted(rows.index(row) for row in part)
        assert set(count(part)) == {"a", "b", "c"}


def test_shares_hold_over_many_small_labels() -> None:
    rows = examples(**{f"l{i:03d}": 10 for i in range(100)})
    parts = stratified_split(rows, SHARES, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 700,
        "validation": 150,
        "test": 150,
    }
    assert set(count(parts["test"]).values()) == {1, 2}


@pytest.mark.parametrize(
    "shares", [{"validation": 0.7, "test": 0.1}, {"validation": 0.1, "test": 0.7}, {"test": 0.01}]
)
def test_a_label_with_as_many_texts_as_splits_has_one_in_each(shares: dict[str, float]) -> None:
    rows = examples(common=500, rare=len(shares) + 1)
    for part in stratified_split(rows, shares, seed=3).values():
        assert count(part)["rare"] == 1


def test_the_same_seed_gives_the_same_split_in_any_order() -> None:
    rows = examples(a=50, b=30)
    mixed = random.Random(1).sample(rows, len(rows))
    first = stratified_split(rows, SHARES, seed=7)
    again = stratified_split(mixed, SHARES, seed=7)
    other = stratified_split(rows, SHARES, seed=8)
    assert {n: set(p) for n, p in first.items()} == {n: set(p) for n, p in again.items()}
    assert set(first["test"]) != set(other["test"])


def test_equal_texts_stay_in_one_split() -> None:
    rows = examples(a=60, b=60)
    rows += [Example(f"{row.id}-again", f"{row.text.upper()}!", row.label) for row in rows]
    place = {
        row.id: name
        for name, part in stratified_split(rows, SHARES, seed=0).items()
        for row in part
    }
    assert all(place[row.id] == place[f"{row.id}-again"] for row in rows[:120])


def test_rare_labels_are_all_named() -> None:
    rows = [*examples(a=9, b=2, c=1), Example("d1", "d", "d"), *[Example("d2", "D!", "d")] * 5]
    with pytest.raises(DataError, match=r"3 label.*'b' \(2\), 'c' \(1\), 'd' \(1\)"):
        stratified_split(rows, SHARES, seed=0)
