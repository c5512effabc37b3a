"""Equal texts, conflicts and leakage."""

from __future__ import annotations

import pytest

from edgedistill.core.artefacts import Example
from edgedistill.data.duplicates import (
    conflicting_groups,
    duplicate_groups,
    find_leaks,
    normalised,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What's  up?", "what’s up"),
        ("\ufb01ne", "FINE"),
        ("STRASSE", "straße"),
        ("cafe\u0301", "CAFÉ"),
        ("hello\u200bworld", "helloworld"),
        ("full-width: ＡＢＣ", "full width abc"),
        (" a\n\tb ", "a b"),
    ],
)
def test_texts_that_are_equal(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("👍", "👎"), ("c++", "c"), ("?", "!"), ("$5", "5"), ("resume", "résumé")]
)
def test_texts_that_differ(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize("text", ["?", "\u200b", "…", "a"])
def test_no_text_becomes_empty(text: str) -> None:
    assert normalised(text)


def rows(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(f"{i}", text, label) for i, (text, label) in enumerate(pairs)]


def test_groups_and_conflicts() -> None:
    found = rows(("Hi!", "a"), ("bye", "b"), ("hi", "a"), ("BYE", "c"), ("single", "a"))
    assert [[row.id for row in group] for group in duplicate_groups(found)] == [
        ["0", "2"],
        ["1", "3"],
    ]
    assert [[row.id for row in group] for group in conflicting_groups(found)] == [["1", "3"]]


def test_leaks_name_the_nearest_source_row() -> None:
    train = rows(
        ("please book me a table for two tonight", "a"),
        ("please book me a table for four tonight", "a"),
        ("what is the weather", "b"),
    )
    test = rows(
        ("What is the weather?", "b"),
        ("please book me a table for two tonights", "a"),
        ("tell me a joke", "c"),
    )
    exact, near = find_leaks(train, test)
    assert (exact.source, exact.row, exact.exact, exact.similarity) == (
        train[2],
        test[0],
        True,
        1.0,
    )
    assert (near.source, near.row, near.exact) == (train[0], test[1], False)
    assert 0.8 <= near.similarity < 1
    assert find_leaks([], test) == []
    assert find_leaks(train, []) == []


def test_the_threshold_is_met_at_equality() -> None:
    source, row = rows(("abcdefgh", "a")), rows(("abcdefghi", "a"))
    # " ab" … "fgh" are shared (7), "gh ", "ghi", "hi " are not (3).
    assert len(find_leaks(source, row, threshold=0.7)) == 1
    assert find_leaks(source, row, threshold=0.71) == []
