import random

import numpy as np
import pytest

from edgedistill.evaluate.robustness import PERTURBATIONS, measure_robustness, perturb

TEXTS = ["Where is my parcel, please?", "Reset my password!", "refund", "?!", "ORDER 66 is late."]


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_perturbations_are_seeded_by_row_and_leave_something(name: str) -> None:
    first = perturb(TEXTS, name, seed=1)
    assert first == perturb(TEXTS, name, seed=1)
    assert first[:2] == perturb(TEXTS[:2], name, seed=1)
    assert all(text.strip() for text in first)
    assert first != TEXTS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lower case", "where is my parcel, please?"),
        ("upper case", "WHERE IS MY PARCEL, PLEASE?"),
        ("punctuation removed", "Where is my parcel please"),
        ("last words cut", "Where is my parcel,"),
    ],
)
def test_what_a_perturbation_does(name: str, expected: str) -> None:
    assert PERTURBATIONS[name](TEXTS[0], random.Random(0)) == expected


def test_spaces_and_punctuation_keep_the_words() -> None:
    spaced = perturb(TEXTS, "extra spaces", seed=0)[0]
    assert spaced.split() == TEXTS[0].split()
    assert "  " in spaced
    assert spaced.startswith(" ")
    marked = perturb(["reset my password now"], "punctuation added", seed=0)[0]
    assert marked.replace(",", "").rstrip(".!?") == "reset my password now" != marked


def test_longer_texts_get_more_typos() -> None:
    typed = perturb(["abcdefghij" * 20], "typos", seed=0)[0]
    assert sum(a != b for a, b in zip(typed, "abcdefghij" * 20, strict=False)) >= 5


def test_accuracy_under_perturbation_is_paired_with_the_plain_one() -> None:
    texts, targets = [f"Word{i} tail" for i in range(40)], np.zeros(40, dtype=int)

    def only_mixed_case(asked: list[str]) -> list[int]:
        return [0 if text[:1] == "W" and "word" not in text else -1 for text in asked]

    rows = {r.perturbation: r for r in measure_robustness(texts, targets, only_mixed_case, seed=0)}
    assert next(iter(rows)) == "unchanged"
    assert set(rows) == {"unchanged", *PERTURBATIONS}
    assert rows["unchanged"].accuracy.value == 1.0
    assert rows["unchanged"].num_changed == 0
    lower = rows["lower case"]
    assert (lower.accuracy.value, lower.agreement, lower.num_changed) == (0.0, 0.0, 40)
    assert lower.difference.value == -1.0
    assert rows["punctuation removed"].num_changed == 0
