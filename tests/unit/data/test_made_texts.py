"""Texts that are made: admitted once, framed, varied at a boundary, edited."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.core.augmentation import TextAugmentation
from edgedistill.core.task import InputSpec
from edgedistill.data.admission import Admission
from edgedistill.data.adversarial import (
    change_characters,
    change_words,
    distract,
    edited,
)
from edgedistill.data.augmentation import augment, collected, shared_out
from edgedistill.data.edge_cases import edge_cases, near_boundary, varied
from edgedistill.data.framing import framed

WORDS = ["where is my order", "cancel it, please", "Money back now!", "wo ist es", "naïve 日本 🙂"]


def points(text: str) -> list[int]:
    return [ord(character) for character in text.lower()]


def admission(*, held_out: tuple[str, ...] = (), **limits: int) -> Admission:
    return Admission(WORDS, held_out, InputSpec.model_validate(limits), points)


def test_a_text_is_admitted_once_and_never_one_that_is_scored() -> None:
    admit = admission(held_out=("Stop it!",), max_characters=12, max_tokens=10, min_characters=3)
    assert admit("go away")
    assert not admit("go away")
    # The tokenizer of this test knows no case: both are one text to it.
    assert not admit("GO away")
    assert not admit(WORDS[0])
    assert not admit("stop  it")
    assert not admit("a  ")
    assert not admit("eleven char")
    assert not admit("")
    assert admit("ten chars!")


def test_collecting_ends_where_nothing_new_comes() -> None:
    admit = admission()
    assert collected(iter(["a", "a", "b", "c"]), num=2, admit=admit) == ["a", "b"]
    assert collected(iter(lambda: "a", None), num=3, admit=admit) == []
    assert collected(iter(["d"]), num=0, admit=admit) == []
    assert [shared_out(7, 3), shared_out(1, 2), shared_out(5, 0)] == [[3, 2, 2], [1, 0], []]


def test_mixed_texts_are_those_that_are_admitted() -> None:
    free = augment(WORDS, num=30, seed=1)
    held = augment(WORDS, num=30, seed=1, admit=admission(held_out=tuple(free[:5])))
    assert len(held) == 30
    assert not set(held) & set(free[:5])
    assert set(held) & set(free)


def test_frames_hold_each_text_once() -> None:
    templates = ["could you {text}", "{text}, {thanks}", "¿{text}?"]
    made = framed(WORDS, templates, num=99, seed=3, admit=admission())
    assert len(made) == len(set(made)) == 15
    assert "could you cancel it, please" in made
    assert "where is my order, {thanks}" in made
    # One mark behind another is one.
    assert {"Money back now, {thanks}", "¿Money back now?", "could you Money back now!"} <= {*made}
    few = framed(WORDS, templates, num=4, seed=3, admit=admission())
    assert few == made[:4]
    # A brace in a text is no place for another.
    assert framed(["{text}"], ["a {text}"], num=2, seed=0, admit=admission()) == ["a {text}"]
    assert framed([], templates, num=2, seed=0, admit=admission()) == []


def test_the_nearest_to_the_boundary_by_hand() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.45, 0.45], [0.9, 0.06, 0.04], [0.2, 0.38, 0.42]])
    rows, second = near_boundary(np.log(p).astype(np.float16), 0.75)
    assert rows.tolist() == [1, 3, 0]
    assert second.tolist() == [2, 1, 1]
    rows, second = near_boundary(np.array([[6e4, -6e4], [0.0, 0.0]]), 0.1)
    assert rows.tolist() == [1]
    assert second.tolist() == [1]


def test_edge_cases_come_in_equal_shares() -> None:
    sources = [lambda _: ("aa bb cc dd", "ee ff"), lambda _: ("gg hh ii jj", "kk ll")]
    made = edge_cases(sources, num=11, seed=5, admit=admission())
    assert len(made) == 11
    assert sum("g" in text or "k" in text or "h" in text for text in made) >= 4
    assert made == edge_cases(sources, num=11, seed=5, admit=admission())
    assert made != edge_cases(sources, num=11, seed=6, admit=admission())
    assert edge_cases([], num=3, seed=5, admit=admission()) == []


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30), other=st.text(max_size=30), seed=st.integers(0, 99))
def test_any_text_can_be_edited(text: str, other: str, seed: int) -> None:
    rng = random.Random(seed)
    synonyms = {"a": ("b",), "α": ("β",)}
    made = [
        varied(text, other, rng), change_characters(text, rng),
        change_words(text, synonyms, rng), distract(text, other, rng),
    ]  # fmt: skip
    assert all(isinstance(each, str) for each in made)
    rng = random.Random(seed)
    again = [
        varied(text, other, rng), change_characters(text, rng),
        change_words(text, synonyms, rng), distract(text, other, rng),
    ]  # fmt: skip
    assert made == again


def test_words_keep_their_case_and_what_stands_around_them() -> None:
    synonyms = {"order": ("parcel",), "now": ("today",), "NOW": ("TODAY",)}
    rng = random.Random(0)
    found = {change_words("Order, now: NOW!", synonyms, rng) for _ in range(60)}
    assert "Parcel, now: NOW!" in found
    assert "Parcel, today: NOW!" in found
    assert "Order, now: TODAY!" in found
    assert all(text.endswith("!") and ", " in text for text in found)
    assert change_words("none of them", synonyms, rng) == "none of them"


def test_characters_change_in_all_three_ways() -> None:
    rng = random.Random(2)
    found = {change_characters("cancel order", rng) for _ in range(200)}
    assert "CANCEL order" in found
    assert any("с" in text for text in found)  # the Cyrillic one
    assert any("0rder" in text for text in found)
    assert any(len(text) != len("cancel order") for text in found)


def test_a_distractor_is_a_clause_of_a_text_with_another_answer() -> None:
    texts = ["a b", "c d, e f", "g h"]
    made = edited(
        "distractors", texts, [0, 1], [0, 1, 1], num=40, seed=1, admit=admission(), synonyms={}
    )
    assert {each.row for each in made} == {0, 1}
    assert not any("g" in each.text for each in made)
    assert {"a b, c d", "e f a b", "a b. e f"} <= {each.text for each in made}
    for each in made:
        assert texts[each.row] in each.text
    assert {distract("Why?!", "c", random.Random(i)) for i in range(40)} == {
        "Why, c", "Why. c", "Why?! c", "c, Why?!", "c. Why?!", "c Why?!"
    }  # fmt: skip
    assert distract("?", "c", random.Random(1)).replace("c", "").strip(" ,.") == "?"
    alike = edited(
        "distractors", texts, [0, 1, 2], [1, 1, 1], num=9, seed=1, synonyms={},
        admit=Admission(texts, (), InputSpec(), points),
    )  # fmt: skip
    assert alike == []


@pytest.mark.parametrize("edit", ["characters", "synonyms", "distractors"])
def test_edits_follow_from_the_seed(edit: str) -> None:
    def made(seed: int) -> list[str]:
        synonyms = {"order": ("parcel", "thing"), "cancel": ("stop",), "Money": ("Cash",)}
        found = edited(
            edit, WORDS, range(5), [0, 1, 2, 3, 4], num=3, seed=seed, admit=admission(),  # type: ignore[arg-type]
            synonyms=synonyms,
        )  # fmt: skip
        return [each.text for each in found]

    assert len(made(1)) == 3
    assert made(1) == made(1)
    assert len({tuple(made(seed)) for seed in range(5)}) > 2
    assert edited(edit, [], [], [], num=4, seed=0, admit=admission(), synonyms={}) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"paraphrases": {"templates": []}}, "at least 1"),
        ({"paraphrases": {"templates": ["please {Text}"]}}, "has {text} once"),
        ({"paraphrases": {"templates": ["{text} {text}"]}}, "has {text} once"),
        ({"paraphrases": {"templates": [" {text} "]}}, "says something"),
        ({"paraphrases": {"templates": ["a {text}", "a {text}"]}}, "each entry once"),
        ({"edge_cases": {"of": ["far"]}}, "edge_cases"),
        ({"edge_cases": {"near_share": 0}}, "near_share"),
        ({"adversarial": {"edits": ["characters", "characters"]}}, "each entry once"),
        ({"adversarial": {"num_texts": 0}}, "num_texts"),
    ],
)
def test_settings_that_make_nothing(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextAugmentation.model_validate(wrong)


def test_what_is_asked_for_is_all_kinds() -> None:
    assert TextAugmentation(num_texts=7).most_texts == 7
    whole = TextAugmentation.model_validate(
        {
            "num_texts": 1, "paraphrases": {"templates": ["a {text}"], "num_texts": 10},
            "edge_cases": {"num_texts": 100}, "adversarial": {"num_texts": 1000},
        }
    )  # fmt: skip
    assert whole.most_texts == 1111
