"""How much of the expected wording generated texts have: BLEU, chrF and ROUGE, from 0 to 1 each.

The reference implementations compute them (sacrebleu, rouge-score); they are imported on use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.core.errors import MissingExtra
from edgedistill.evaluate.text_words import words_of

#: How BLEU parts a text into words: `13a` for Western languages; `char` for Japanese and Chinese;
#: `none` for texts already parted by spaces.
BleuTokenizer = Literal["13a", "intl", "zh", "char", "none"]
#: The same for ROUGE: `word` for runs of letters and digits in any script (rouge-score's own rule
#: keeps a-z and 0-9 alone, so that "für" would be two words and Russian none).
RougeTokenizer = Literal["word", "char", "none"]
#: A function from row numbers [samples, rows] to a score a sample, [samples].
ScoreSamples: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Rouge:
    """Mean F-measures over rows: single words, pairs of words, longest common subsequence."""

    rouge1: float
    rouge2: float
    rouge_l: float


def bleu(
    predicted: Sequence[str], expected: Sequence[str], *, tokenizer: BleuTokenizer = "13a"
) -> float:
    """Corpus BLEU-4 (Papineni et al. 2002) as sacrebleu defines it (Post 2018, arXiv 1804.08771),
    one reference a row, exponential smoothing; a hundredth of the customary figure.

    Raises:
        MissingExtra: sacrebleu is not installed.
        ValueError: unequal or empty lists.
    """
    _require_pairs(predicted, expected)
    metric = _bleu(tokenizer)
    return float(metric.corpus_score(list(predicted), [list(expected)]).score) / 100


def bleu_of_samples(
    predicted: Sequence[str], expected: Sequence[str], *, tokenizer: BleuTokenizer = "13a"
) -> ScoreSamples:
    """`bleu` of samples of the rows; raises as it does."""
    _require_pairs(predicted, expected)
    return _of_samples(_bleu(tokenizer), predicted, expected)


def chrf(predicted: Sequence[str], expected: Sequence[str], *, word_order: int = 0) -> float:
    """Corpus chrF2 over characters (Popović 2015), chrF++ with `word_order` 2; needs no words, so
    suits every language.

    Raises:
        MissingExtra: sacrebleu is not installed.
        ValueError: unequal or empty lists.
    """
    _require_pairs(predicted, expected)
    metric = _sacrebleu().CHRF(word_order=word_order)
    return float(metric.corpus_score(list(predicted), [list(expected)]).score) / 100


def chrf_of_samples(
    predicted: Sequence[str], expected: Sequence[str], *, word_order: int = 0
) -> ScoreSamples:
    """`chrf` of samples of the rows; raises as it does."""
    _require_pairs(predicted, expected)
    return _of_samples(_sacrebleu().CHRF(word_order=word_order), predicted, expected)


def rouge(
    predicted: Sequence[str], expected: Sequence[str], *, tokenizer: RougeTokenizer = "word"
) -> Rouge:
    """ROUGE-1, -2 and -L (Lin 2004), without stemming; L over the whole text.

    Raises:
        MissingExtra: rouge-score is not installed.
        ValueError: unequal or empty lists.
    """
    return Rouge(*rouge_rows(predicted, expected, tokenizer=tokenizer).mean(axis=0).tolist())


def rouge_rows(
    predicted: Sequence[str], expected: Sequence[str], *, tokenizer: RougeTokenizer = "word"
) -> NDArray[np.float64]:
    """The same F-measures of every row, [rows, 3]; raises as `rouge` does."""
    _require_pairs(predicted, expected)
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingExtra("ROUGE", "train") from error
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names, tokenizer=_Parting(tokenizer))
    scores = [scorer.score(wanted, found)
              for found, wanted in zip(predicted, expected, strict=True)]  # fmt: skip
    return np.array([[score[name].fmeasure for name in names] for score in scores])


class _Parting:
    """Words of a text for rouge-score."""

    def __init__(self, tokenizer: RougeTokenizer) -> None:
        self.tokenizer = tokenizer

    def tokenize(self, text: str) -> list[str]:
        if self.tokenizer == "word":
            return words_of(text)
        return list("".join(text.split())) if self.tokenizer == "char" else text.split()


def _bleu(tokenizer: BleuTokenizer) -> Any:
    return _sacrebleu().BLEU(tokenize=tokenizer, force=True)  # force: texts may end in " ."


def _of_samples(metric: Any, predicted: Sequence[str], expected: Sequence[str]) -> ScoreSamples:
    """A corpus score is one of sums over rows: the rows are counted once, and each sample adds up
    what it holds. sacrebleu does so in its own bootstrap, with draws of its own; these two methods
    of it are not public (its bootstrap's samples are not either), and held to the public score by
    a test."""
    counts = np.array(metric._extract_corpus_statistics(list(predicted), [list(expected)]))

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        sums = (counts[drawn].sum(axis=0).tolist() for drawn in rows)
        return np.array([metric._compute_score_from_stats(each).score / 100 for each in sums])

    return scores


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise MissingExtra("BLEU and chrF", "train") from error
    return metrics


def _require_pairs(predicted: Sequence[str], expected: Sequence[str]) -> None:
    if len(predicted) != len(expected) or not expected:
        raise ValueError(
            f"need two equally long, non-empty lists, got {len(predicted)} and {len(expected)}"
        )
