"""Whatever comes in, an answer or a reasoned abstention goes out."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.runtime.prediction import Reason
from small_bundle import LABELS, TEXTS, make_classifier, make_manifest

CLASSIFIERS = {
    batching: make_classifier(manifest=make_manifest(batching=batching))
    for batching in ("single", "padded")
}
# Surrogates, NUL and control characters included.
ANY_TEXT = st.text(st.characters(codec=None), max_size=300)
ANYTHING = st.one_of(
    ANY_TEXT,
    st.sampled_from(TEXTS),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=20),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.mark.parametrize("batching", CLASSIFIERS)
@given(inputs=st.lists(ANYTHING, max_size=6))
@settings(max_examples=150, deadline=None)
def test_every_input_gets_one_sound_answer(batching: str, inputs: list[Any]) -> None:
    answers = CLASSIFIERS[batching].predict(inputs)
    assert len(answers) == len(inputs)
    for answer in answers:
        if answer.abstained:
            assert answer.label is None
            assert answer.confidence is None
            assert answer.reason in get_args(Reason)
            assert answer.detail
        else:
            assert answer.label in LABELS
            assert answer.confidence is not None
            assert 0 < answer.confidence <= 1
        json.dumps(answer.as_json(), allow_nan=False)


@given(inputs=st.lists(ANYTHING, min_size=2, max_size=6))
@settings(max_examples=100, deadline=None)
def test_company_never_changes_an_answer(inputs: list[Any]) -> None:
    classifier = CLASSIFIERS["single"]
    assert classifier.predict(inputs) == [classifier.predict([one])[0] for one in inputs]


@given(texts=st.lists(st.text(max_size=80), max_size=5))
@settings(max_examples=100, deadline=None)
def test_raw_takes_any_valid_text(texts: list[str]) -> None:
    for classifier in CLASSIFIERS.values():
        logits, features = classifier.raw(texts)
        assert logits.shape == (len(texts), len(LABELS))
        assert features.shape == (len(texts), 4)
