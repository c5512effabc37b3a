"""Decoding of tags against every sequence there is; spans and tags there and back."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedistill.runtime.extraction.tagging import (
    begin_tag,
    best_tags,
    document_logits,
    spans_of,
    tag_names,
    tag_probabilities,
)

NUM_FIELDS, NUM_TAGS = 2, 5
Tags = tuple[int, ...]


def is_legal(tags: Tags, begins_word: np.ndarray, whole_words: bool) -> bool:
    """The grammar, said by names instead of numbers."""
    names = [tag_names(("x", "y"))[tag] for tag in tags]
    for place, name in enumerate(names):
        before = names[place - 1] if place else "O"
        if name[0] == "I" and before[1:] != name[1:]:
            return False
        is_inner = whole_words and place and not begins_word[place]
        if is_inner and (name[0] == "B" or (name == "O") != (before == "O")):
            return False
    return True


cases = st.integers(1, 5).flatmap(
    lambda num: st.tuples(
        arrays(np.float32, (num, NUM_TAGS), elements=st.integers(-4, 4).map(float)),
        arrays(np.bool_, num),
        st.booleans(),
    )
)


@given(cases)
def test_the_best_legal_sequence_is_found(case: tuple[np.ndarray, np.ndarray, bool]) -> None:
    logits, begins_word, whole_words = case
    found = best_tags(logits, begins_word, whole_words=whole_words)
    scores = {
        tags: float(sum(logits[place, tag] for place, tag in enumerate(tags)))
        for tags in product(range(NUM_TAGS), repeat=len(logits))
        if is_legal(tags, begins_word, whole_words)
    }
    chosen = tuple(found.tolist())
    assert chosen in scores
    assert scores[chosen] == max(scores.values())


@given(cases)
def test_spans_say_what_legal_tags_say(case: tuple[np.ndarray, np.ndarray, bool]) -> None:
    logits, begins_word, whole_words = case
    tags = best_tags(logits, begins_word, whole_words=whole_words)
    again = np.zeros_like(tags)
    for field, first, last in spans_of(tags):
        again[first : last + 1] = begin_tag(field) + 1
        again[first] = begin_tag(field)
    assert np.array_equal(again, tags)


def test_a_lone_inside_is_mended_by_what_is_likeliest() -> None:
    # O, then I-x far ahead: "B-x I-x" costs 1, "O B-x" costs 4, "O O" costs 9.
    logits = np.array([[1.0, 0.0, 0, 0, 0], [0.0, 5.0, 9.0, 0, 0]])
    assert best_tags(logits, np.array([True, True])).tolist() == [1, 2]


def test_logits_that_are_no_numbers_do_not_raise() -> None:
    for num in (1, 3):
        logits = np.full((num, NUM_TAGS), np.nan)
        assert best_tags(logits, np.ones(num, bool)).shape == (num,)


@given(arrays(np.float64, (3, NUM_TAGS), elements=st.floats(-50, 50)), st.floats(0.1, 10))
def test_probabilities_are_those_of_the_softmax(logits: np.ndarray, temperature: float) -> None:
    tags = logits.argmax(axis=1)
    # Each row from its own largest, or a row far below another has none left to divide by.
    exponentials = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    expected = (exponentials / exponentials.sum(axis=1, keepdims=True))[np.arange(3), tags]
    assert np.allclose(tag_probabilities(logits, tags, temperature), expected, rtol=1e-6)


@given(arrays(np.float32, (4, NUM_TAGS), elements=st.floats(-20, 20, width=32)), st.randoms())
def test_the_guard_reads_tokens_and_tags_in_any_order(logits: np.ndarray, random: object) -> None:
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(logits[rng.permutation(4)], axis=1)
    assert np.allclose(document_logits(logits), document_logits(shuffled), atol=1e-4)
    assert document_logits(logits)[0, 0] == pytest.approx(logits.max(axis=1).mean(), abs=1e-4)
