"""The classifier: answers, abstentions, batching."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

import edgedistill
from edgedistill.core.errors import BundleError
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.manifest import MODEL, TOKENIZER, InputLimits
from edgedistill.runtime.session import Session
from edgedistill.runtime.tokenizer import Tokenizer, pack_tokenizer
from small_bundle import (
    LABELS,
    LIMITS,
    OUT_OF_BOUNDS,
    TEXTS,
    make_bundle,
    make_classifier,
    make_files,
    make_guard,
    make_manifest,
    model_bytes,
    tokenizer_json,
)

EXPECTED = ["track", "cancel", "refund", "cancel", "track", "refund"]


def test_loading_by_the_front_door(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    classifier = edgedistill.load(tmp_path / "bundle", threads=2)
    assert [p.label for p in classifier.predict(list(TEXTS))] == EXPECTED


def test_an_answer_has_a_label_and_a_probability(classifier: Classifier) -> None:
    answer = classifier.predict([TEXTS[0]])[0]
    assert (answer.label, answer.abstained, answer.reason, answer.detail) == (
        "track", False, None, "",
    )  # fmt: skip
    assert answer.confidence is not None
    assert 0.9 < answer.confidence <= 1.0
    tempered = np.exp(classifier.logits([TEXTS[0]])[0].astype(np.float64) / 2.0)
    assert answer.confidence == pytest.approx(tempered.max() / tempered.sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "wrong_type"),
        (b"where is my parcel", "wrong_type"),
        (3.5, "wrong_type"),
        (["where is my parcel"], "wrong_type"),
        ("\ud800 where is my parcel", "wrong_type"),
        ("", "empty"),
        (" \n\t ", "empty"),
        ("\0\0\0\0", "empty"),
        (" no ", "too_short"),
        ("x" * 201, "too_long"),
        ("the " * 17, "too_long"),
        ("x" * 10_000_000, "too_long"),
        ("wo ist denn mein paket und warum ist es noch nicht hier", "wrong_language"),
        ("где моя посылка", "wrong_language"),
        (OUT_OF_BOUNDS, "out_of_bounds"),
    ],
)
def test_what_is_not_answered_says_why(classifier: Classifier, text: Any, reason: str) -> None:
    answer = classifier.predict([text])[0]
    assert (answer.label, answer.confidence, answer.abstained) == (None, None, True)
    assert answer.reason == reason
    assert answer.detail
    assert (answer.score is not None) == (reason == "out_of_bounds")
    assert answer.as_json()["reason"] == reason


def test_the_limits_themselves_are_in_bounds(classifier: Classifier) -> None:
    longest = "the " * 12 + "late parcel where"  # 15 words and the start mark: 16 tokens
    assert classifier.predict([longest])[0].reason in (None, "out_of_bounds")
    assert classifier.predict([longest + " is"])[0].reason == "too_long"
    padded = "stop it now".ljust(LIMITS.max_characters)
    assert classifier.predict([padded])[0].label == "cancel"


@pytest.mark.parametrize("batching", ["single", "padded"])
def test_a_batch_is_answered_in_order_with_its_refusals(batching: str) -> None:
    classifier = make_classifier(manifest=make_manifest(batching=batching))
    mixed = [None, *TEXTS, "", OUT_OF_BOUNDS, "the " * 17] * 9
    answers = classifier.predict(mixed)
    expected = [None, *EXPECTED, None, None, None] * 9
    assert [answer.label for answer in answers] == expected
    alone = [classifier.predict([text])[0] for text in mixed]
    assert [a.reason for a in answers] == [a.reason for a in alone]
    np.testing.assert_allclose(
        [a.confidence or 0.0 for a in answers], [a.confidence or 0.0 for a in alone], rtol=1e-5
    )


def test_single_batching_is_the_same_to_the_bit_whatever_the_company(
    classifier: Classifier,
) -> None:
    together = classifier.predict(list(TEXTS))
    assert together == [classifier.predict([text])[0] for text in TEXTS]
    assert together == classifier.predict(list(TEXTS))


@pytest.mark.parametrize("batching", ["single", "padded"])
def test_no_inputs_no_answers(batching: str) -> None:
    classifier = make_classifier(manifest=make_manifest(batching=batching))
    assert classifier.predict([]) == []
    logits, features = classifier.raw([])
    assert logits.shape == (0, 3)
    assert features.shape == (0, 4)


@pytest.mark.parametrize("batching", ["single", "padded"])
def test_raw_refuses_nothing_and_keeps_the_order(batching: str) -> None:
    classifier = make_classifier(manifest=make_manifest(batching=batching))
    texts = [*TEXTS, "", "x" * 300, "parcel " * 40, "wo ist denn das und wer", *TEXTS] * 5
    logits, features = classifier.raw(texts)
    assert logits.shape == (len(texts), 3)
    assert features.shape == (len(texts), 4)
    for row in (0, 6, 8, 9, len(texts) - 1):
        np.testing.assert_allclose(logits[row], classifier.logits([texts[row]])[0], rtol=1e-5)
    assert [LABELS[i] for i in logits[:6].argmax(axis=1)] == EXPECTED


def test_raw_cuts_to_the_tokens_that_the_model_reads(classifier: Classifier) -> None:
    read = ["[CLS]", *["parcel"] * 15]  # 14 kept and the last one: 16 tokens
    assert len(read) == LIMITS.max_tokens
    np.testing.assert_array_equal(
        classifier.logits(["parcel " * 40]), classifier.logits(["parcel " * 15])
    )


def test_one_text_instead_of_a_list_is_a_mistake(classifier: Classifier) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        classifier.predict("where is my parcel")


def test_answers_are_the_same_from_many_threads(classifier: Classifier) -> None:
    expected = classifier.predict(list(TEXTS))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(classifier.predict, [list(TEXTS)] * 40))
    assert all(answers == expected for answers in found)


def test_logits_that_are_no_numbers_are_out_of_bounds() -> None:
    broken = model_bytes().replace(np.float32(30.0).tobytes(), np.float32(np.nan).tobytes())
    files = {**make_files(), MODEL: broken}
    classifier = Classifier.from_files(make_manifest(), files)
    answer = classifier.predict([TEXTS[0]])[0]
    assert answer.reason == "out_of_bounds"
    assert answer.as_json()["score"] is None


def test_a_threshold_that_refuses_nothing_answers_all() -> None:
    classifier = make_classifier(guard=make_guard(threshold=1.7e308))
    assert not classifier.predict([OUT_OF_BOUNDS])[0].abstained


def test_a_model_with_other_classes_is_refused() -> None:
    files = {**make_files(), MODEL: model_bytes(num_labels=4)}
    with pytest.raises(BundleError, match="4 logits for 3 labels"):
        Classifier.from_files(make_manifest(), files)


def test_a_guard_fitted_to_other_features_is_refused() -> None:
    arrays = {"whitening": np.eye(7), "whitened_means": np.zeros((3, 7))}
    guard = make_guard(kind="feature_distance", arrays=arrays)
    with pytest.raises(BundleError, match="do not run"):
        make_classifier(guard=guard)


@pytest.mark.parametrize("content", [b"", b"no model", model_bytes()[:500]])
def test_a_broken_model_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="cannot load"):
        Session(content)


def test_a_model_with_other_inputs_is_refused() -> None:
    renamed = model_bytes().replace(b"attention_mask", b"attention_musk")
    with pytest.raises(BundleError, match="attention_musk"):
        Session(renamed)


@pytest.mark.parametrize(
    "content", [b"", b"{}", gzip.compress(b"{}", mtime=0), gzip.compress(b"x", mtime=0)]
)
def test_a_broken_tokenizer_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="tokenizer"):
        Classifier.from_files(make_manifest(), {**make_files(), TOKENIZER: content})


def test_a_vocabulary_with_gaps_is_packed_as_it_is() -> None:
    content = json.loads(tokenizer_json())
    vocabulary = content["model"]["vocab"]
    vocabulary["far"] = len(vocabulary) + 5
    for packed_as in (content, json.loads(tokenizer_json())):
        packed = pack_tokenizer(json.dumps(packed_as))
        whole = tokenizers.Tokenizer.from_str(json.dumps(packed_as))
        whole.no_padding()
        whole.no_truncation()
        for text in ("where is my far parcel", "tokens by id"):
            assert Tokenizer(packed).encode(text) == whole.encode(text).ids


def test_the_tokenizer_neither_cuts_nor_pads() -> None:
    tokenizer = Tokenizer(pack_tokenizer(tokenizer_json()))
    assert tokenizer.num_special == 1
    assert len(tokenizer.encode("where is")) == 3
    assert len(tokenizer.encode("where " * 50)) == 51
    assert tokenizer.encode_many(TEXTS) == [tokenizer.encode(text) for text in TEXTS]


def test_without_languages_every_language_passes_to_the_guard() -> None:
    limits = InputLimits(min_characters=1, max_characters=200, max_tokens=16)
    classifier = make_classifier(manifest=make_manifest(input=limits))
    assert classifier.predict(["где моя посылка"])[0].reason == "out_of_bounds"
