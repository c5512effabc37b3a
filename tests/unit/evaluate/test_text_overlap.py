"""BLEU, chrF and ROUGE by hand, and for languages without spaces."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest

from edgedistill.core.errors import MissingExtra
from edgedistill.evaluate.text_overlap import (
    Rouge,
    bleu,
    bleu_of_samples,
    chrf,
    chrf_of_samples,
    rouge,
    rouge_rows,
)

ROWS = (
    ["the cat sat on the mat", "", "a b", "私は猫です", "quite another thing ."],
    ["the cat sat on the rug", "word", "a b", "私は犬です", "quite some other thing ."],
)


def test_bleu_by_hand() -> None:
    # 1- to 4-grams found: 5 of 6, 4 of 5, 3 of 4, 2 of 3; no brevity penalty.
    found = bleu(["the cat sat on the mat"], ["the cat sat on the rug"])
    assert found == pytest.approx((5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25, rel=1e-6)
    # All n-grams right, 5 words of 6: the brevity penalty alone.
    short = bleu(["the cat sat on the"], ["the cat sat on the mat"])
    assert short == pytest.approx(math.exp(1 - 6 / 5), rel=1e-6)


def test_bleu_of_a_corpus_is_not_a_mean_of_rows() -> None:
    rows = (["a b c d", "x y z w"], ["a b c d", "x y z v"])
    # 7 of 8, 5 of 6, 3 of 4, 1 of 2 over both rows.
    assert bleu(*rows) == pytest.approx((7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25, rel=1e-6)


def test_bleu_parts_japanese_as_it_is_told() -> None:
    expected, found = ["私は猫が好きです"], ["私は犬が好きです"]
    # Characters: 7 of 8; pairs 5 of 7; threes 3 of 6; fours 2 of 5.
    by_hand = (7 / 8 * 5 / 7 * 3 / 6 * 2 / 5) ** 0.25
    assert bleu(found, expected, tokenizer="char") == pytest.approx(by_hand, rel=1e-6)
    assert bleu(found, expected) < 0.01  # one unknown word
    spaced = [" ".join(text) for text in found], [" ".join(text) for text in expected]
    assert bleu(*spaced, tokenizer="none") == pytest.approx(by_hand, rel=1e-6)


def test_chrf_by_hand() -> None:
    # "abc" to "abd": of 1- to 3-grams 2 of 3, 1 of 2, 0 of 1 are right on both sides, and orders
    # longer than the text do not count: the mean is 7 / 18 for precision and recall alike.
    assert chrf(["abc"], ["abd"]) == pytest.approx(7 / 18, rel=1e-6)
    assert chrf(["猫です"], ["猫です"]) == pytest.approx(1.0)
    assert chrf(["a b x"], ["a b c"], word_order=2) != chrf(["a b x"], ["a b c"])


def test_rouge_by_hand() -> None:
    found = rouge(["the cat the dog"], ["the dog the cat sat"])
    # Words: 4 right of 4 and 5. Pairs: the-cat, the-dog right of 3 and 4. Subsequence: 2.
    assert found.rouge1 == pytest.approx(2 * 4 / 9)
    assert found.rouge2 == pytest.approx(2 * 2 / 7)
    assert found.rouge_l == pytest.approx(2 * 2 / 9)
    assert rouge(["a", "b"], ["a", "c"]).rouge1 == pytest.approx(0.5)


def test_rouge_of_japanese_needs_characters() -> None:
    assert rouge(["私は猫"], ["私は犬"]) == Rouge(0.0, 0.0, 0.0)  # one word each
    assert rouge(["私は猫"], ["私は猫"], tokenizer="char") == Rouge(1.0, 1.0, 1.0)
    assert rouge(["私 は 猫"], ["私 は 犬"], tokenizer="none").rouge1 == pytest.approx(2 / 3)


def test_empty_texts_score_nothing() -> None:
    assert bleu([""], ["a b c d"]) == 0.0
    assert chrf([""], ["a b"]) == 0.0
    assert rouge([""], ["a b"], tokenizer="char") == Rouge(0.0, 0.0, 0.0)


@pytest.mark.parametrize("metric", [bleu, chrf, rouge])
@pytest.mark.parametrize("rows", [([], []), (["a"], [])])
def test_figures_over_nothing_are_refused(metric: Any, rows: tuple[list[str], list[str]]) -> None:
    with pytest.raises(ValueError, match="equally long"):
        metric(*rows)


@pytest.mark.parametrize("metric", [bleu, chrf, rouge])
def test_a_missing_package_is_named(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in {"sacrebleu", "rouge_score"}:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match="not installed"):
        metric(["a"], ["a"])


@pytest.mark.parametrize(
    ("of_samples", "whole"),
    [
        (bleu_of_samples(*ROWS, tokenizer="char"), lambda a, b: bleu(a, b, tokenizer="char")),
        (bleu_of_samples(*ROWS), bleu),
        (chrf_of_samples(*ROWS), chrf),
        (chrf_of_samples(*ROWS, word_order=2), lambda a, b: chrf(a, b, word_order=2)),
        (lambda rows: rouge_rows(*ROWS)[rows].mean(1)[:, 2], lambda a, b: rouge(a, b).rouge_l),
    ],
)
def test_samples_score_as_the_rows_that_they_hold_do(of_samples: Any, whole: Any) -> None:
    rows = np.vstack([np.arange(5), np.random.default_rng(0).integers(5, size=(20, 5))])
    drawn = [[[side[i] for i in sample] for side in ROWS] for sample in rows]
    expected = [whole(*pair) for pair in drawn]
    assert np.allclose(of_samples(rows), expected, rtol=1e-12)
    assert len(set(expected)) > 5


def test_samples_of_nothing_are_refused() -> None:
    for of_samples in (bleu_of_samples, chrf_of_samples, rouge_rows):
        with pytest.raises(ValueError, match="equally long, non-empty"):
            of_samples([], [])  # type: ignore[operator]
