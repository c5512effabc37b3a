"""Words of a language, and short answers that are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from edgedistill.evaluate.generation_score import right_answers, score
from edgedistill.evaluate.text_overlap import bleu, rouge
from edgedistill.evaluate.text_words import lacks_spaces, plain_answer, words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("私は猫が好き", True),
        ("iPhone を 買 う 。", False),  # six letters of ten are Latin
        ("我喜欢 TV", True),
        ("สวัสดีครับ", True),
        ("한국어 문장", False),
        ("für Русский", False),
        ("", False),
        ("123 ?!", False),
    ],
)
def test_scripts_without_spaces(text: str, expected: bool) -> None:
    assert lacks_spaces([text]) is expected


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_words_of_ascii_are_those_of_rouge_score(text: str) -> None:
    assert words_of(text) == tokenize(text, None)


def test_words_of_other_alphabets_are_whole() -> None:
    assert words_of("Für Élise, привет! हिन्दी") == ["für", "élise", "привет", "हिन्दी"]
    assert rouge(["привет мир"], ["привет, мир"]).rouge_l == 1.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The Eiffel Tower.", "eiffel  tower", True),
        ("Ｔｏｋｙｏ。", "tokyo", True),
        ("U.S.A.", "USA", True),
        ("A", "a)", True),
        ("A", "the", False),
        ("7.5", "75", False),
        (".5", "5", False),
        ("1/2", "12", False),
        ("-5", "5", False),
        ("18.", "18", True),
        ("!", "?", False),
        ("C++", "C", False),
        ('{"a": 1, "b": 2}', '{"b":2,"a":1.0}', True),
        ('{"a": "1"}', '{"a": 1}', False),
    ],
)
def test_short_answers_that_are_the_same(one: str, other: str, same: bool) -> None:
    assert right_answers("exact_match", [one], [other]).tolist() == [same]
    assert score("exact_match", [one], [other]) == float(same)


@given(st.text())
def test_any_text_is_its_own_answer_and_no_answer_is_none(text: str) -> None:
    assert bool(plain_answer(text)) == bool(text.strip())
    assert right_answers("exact_match", [text], [f" {text}\n"]).all()
    assert not right_answers("exact_match", [None], [text]).any()


def test_japanese_is_scored_by_characters_and_english_by_words() -> None:
    expected, found = ["私は猫が好きです"], ["私は犬が好きです"]
    by_characters = bleu(found, expected, tokenizer="char")
    assert score("bleu", found, expected) == by_characters > 0.3
    spaced = [" ".join(expected[0])], [" ".join(found[0])]
    assert score("bleu", spaced[1], spaced[0]) == by_characters
    assert score("rouge_l", found, expected) == pytest.approx(7 / 8)
    english = (["the cat sat on the rug"], ["the cat sat on the mat"])
    assert score("bleu", *english) == bleu(*english)
    assert score("rouge_l", *english) == pytest.approx(5 / 6)
    # The references decide: a model that answers in Latin letters changes nothing.
    assert score("rouge_l", ["watashi wa"], expected) == 0.0
