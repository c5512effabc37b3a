"""Texts in a foreign language are found, those in an expected one pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgedistill.runtime.function_words import FUNCTION_WORDS, LANGUAGE_NAMES
from edgedistill.runtime.language import LanguageCheck

SENTENCES: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "language_sentences.json").read_text(encoding="utf-8")
)
SCRIPT_LANGUAGES = ("ru", "uk", "ja", "zh", "ko", "ar", "he", "el", "hi", "th")


def test_there_are_ten_sentences_for_every_language_with_a_word_list() -> None:
    assert all(len(SENTENCES[language]) == 10 for language in FUNCTION_WORDS)
    assert len(FUNCTION_WORDS) >= 12


@pytest.mark.parametrize("language", SENTENCES)
def test_no_sentence_of_the_expected_language_is_refused(language: str) -> None:
    check = LanguageCheck([language])
    assert [text for text in SENTENCES[language] if check.foreign(text)] == []


@pytest.mark.parametrize("language", [k for k in LANGUAGE_NAMES if k not in ("en", "ru", "uk")])
def test_most_sentences_of_a_foreign_language_are_found_and_named(language: str) -> None:
    verdicts = [LanguageCheck(["en"]).foreign(text) for text in SENTENCES[language]]
    found = [verdict for verdict in verdicts if verdict]
    # Polish and Turkish inflect where others use a function word.
    assert len(found) >= (5 if language in ("pl", "tr") else 8)
    assert set(found) == {LANGUAGE_NAMES[language]}


@pytest.mark.parametrize("language", SCRIPT_LANGUAGES)
def test_a_foreign_script_is_always_found(language: str) -> None:
    verdicts = [LanguageCheck(["en"]).foreign(text) for text in SENTENCES[language]]
    assert all(verdict and verdict.startswith("written in") for verdict in verdicts)


def test_every_expected_language_passes_beside_the_others() -> None:
    check = LanguageCheck(["de", "en", "ja"])
    for language in ("de", "en", "ja"):
        assert not any(check.foreign(text) for text in SENTENCES[language])
    assert sum(check.foreign(text) == "French" for text in SENTENCES["fr"]) >= 8


@pytest.mark.parametrize(
    "text",
    ["", "ja", "danke schön", "que?", "la la la la la la", "der", "π ≈ 3.14", "你好", "МГУ",
     "call Björk in Reykjavík", "route to 北京 from the airport in London", "🙂🙂🙂", "12345"],
)  # fmt: skip
def test_short_or_mixed_texts_pass(text: str) -> None:
    assert LanguageCheck(["en"]).foreign(text) is None


@pytest.mark.parametrize("languages", [[], ["tlh"], ["en", "tlh"]])
def test_without_a_known_language_nothing_is_refused(languages: list[str]) -> None:
    check = LanguageCheck(languages)
    assert not any(check.foreign(text) for texts in SENTENCES.values() for text in texts)


def test_relatives_of_a_language_without_word_list_are_left_alone() -> None:
    norwegian = LanguageCheck(["no"])
    assert not any(norwegian.foreign(text) for text in SENTENCES["da"])
    assert all(norwegian.foreign(text) for text in SENTENCES["ru"])


def test_a_region_does_not_change_the_language() -> None:
    assert LanguageCheck(["pt-BR"]).foreign(SENTENCES["pt"][0]) is None
    assert LanguageCheck(["en-GB"]).foreign(SENTENCES["de"][0]) == "German"
