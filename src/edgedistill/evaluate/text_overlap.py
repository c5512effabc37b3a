"""How much of the expected wording generated texts have: BLEU, chrF and ROUGE, from 0 to 1 each.

The reference implementations compute them (sacrebleu, rouge-score); they are imported on use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgedistill.core.errors import MissingExtra
from edgedistill.evaluate.text_words import words_of

#: How BLEU parts a text into words: `13a` for Western languages; `char` for Japanese and Chinese;
#: `none` for texts already parted by spaces.
BleuTokenizer = Literal["13a", "intl", "zh", "char", "none"]
#: The same for ROUGE: `word` for runs of letters and digits in any script (rouge-score's own rule
#: keeps a-z and 0-9 alone, so that "für" would be two words and Russian none).
RougeTokenizer = Literal["word", "char", "none"]


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
    metric = _sacrebleu().BLEU(tokenize=tokenizer, force=True)  # force: texts may end in " ."
    return float(metric.corpus_score(list(predicted), [list(expected)]).score) / 100


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


def rouge(
    predicted: Sequence[str], expected: Sequence[str], *, tokenizer: RougeTokenizer = "word"
) -> Rouge:
    """ROUGE-1, -2 and -L (Lin 2004), without stemming; L over the whole text.

    Raises:
        MissingExtra: rouge-score is not installed.
        ValueError: unequal or empty lists.
    """
    _require_pairs(predicted, expected)
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingExtra("ROUGE", "train") from error
    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(names), tokenizer=_Parting(tokenizer))
    sums = dict.fromkeys(names, 0.0)
    for found, wanted in zip(predicted, expected, strict=True):
        for name, score in scorer.score(wanted, found).items():
            sums[name] += score.fmeasure
    return Rouge(*(sums[name] / len(expected) for name in names))


class _Parting:
    """Words of a text for rouge-score."""

    def __init__(self, tokenizer: RougeTokenizer) -> None:
        self.tokenizer = tokenizer

    def tokenize(self, text: str) -> list[str]:
        if self.tokenizer == "word":
            return words_of(text)
        return list("".join(text.split())) if self.tokenizer == "char" else text.split()


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
