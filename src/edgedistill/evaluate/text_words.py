"""What a word is, in the language that texts are written in, and when two short answers are one.

Metrics of wording count words. The references say how to find them: they are the same for every
model that is compared, and a task's `input.languages` are those of its prompts, not of its answers.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

#: Scripts whose writing has no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana
#: (with halfwidth), bopomofo, Han (with its extensions). Hangul has spaces.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff"
    "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
_ARTICLES = frozenset(("a", "an", "the"))
# Part of a number: 7.5 is not 75, 1/2 is not 12, -5 is not 5.
_IN_NUMBER = re.compile(r"(?<=\d)[.,:/](?=\d)|(?<!\w)[-.](?=\d)")


def lacks_spaces(texts: Sequence[str]) -> bool:
    """Whether more than half of the letters belong to scripts that put no space between words."""
    letters = unspaced = 0
    for text in texts:
        unspaced += len(_UNSPACED.findall(text))
        letters += sum(map(str.isalpha, text))
    return 2 * unspaced > letters


def words_of(text: str) -> list[str]:
    """Runs of letters, marks and digits in lower case; for ASCII those of rouge-score."""
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower())
    return "".join(kept).split()


def plain_answer(text: str) -> str:
    """A short answer without what does not change it, as SQuAD compares them (Rajpurkar et al.
    2016): case, punctuation, white space and the articles a, an, the.

    In three things it differs. Punctuation that is part of a number stays: the answer 7.5 is not
    75. Articles go only where a word is left: "A" may be the choice A. So does punctuation: an
    answer of nothing else stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    in_number = {found.start() for found in _IN_NUMBER.finditer(folded)}
    words = "".join(
        c for i, c in enumerate(folded) if i in in_number or unicodedata.category(c)[0] != "P"
    ).split()
    return " ".join([word for word in words if word not in _ARTICLES] or words) or folded.strip()
