"""Is a text clearly written in another language than the task's? In doubt it is not.

Two kinds of evidence, both strong enough to act on alone: a foreign script, and the function
words of a foreign language without those of an expected one (Grefenstette 1995, "Comparing two
language identification schemes", found function words as good as letter trigrams from 15 words
on). Short texts pass: a fragment, a name or a typo is no evidence. The guard sees what passes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgedistill.runtime.function_words import FUNCTION_WORDS, LANGUAGE_NAMES

MIN_FOREIGN_LETTERS = 4
"""Letters of a foreign script, and more than half of all letters, refuse a text."""
MIN_FOREIGN_WORDS = 3
"""Distinct function words that only the foreign language has."""
MIN_FOREIGN_SHARE = 0.3
"""Least share of such words among all words."""
MOST_EXPECTED_SHARE = 0.34
"""Most function words of an expected language for each foreign one."""

_LETTER_RANGES = {
    "Greek": "\u0370-\u03ff\u1f00-\u1fff",
    "Cyrillic": "\u0400-\u052f",
    "Armenian": "\u0530-\u058f",
    "Hebrew": "\u0590-\u05ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Tamil": "\u0b80-\u0bff",
    "Telugu": "\u0c00-\u0c7f",
    "Thai": "\u0e00-\u0e7f",
    "Georgian": "\u10a0-\u10ff",
    "Hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Kana": "\u3041-\u309f\u30a1-\u30ff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff",
}

_LATIN_ONLY = (
    "ca", "cs", "et", "eu", "fi", "ga", "gl", "hr", "hu", "is", "lt", "lv", "ms", "mt",
    "nb", "nn", "no", "ro", "sk", "sl", "sq", "sw", "tl", "vi",
)  # fmt: skip

_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*LANGUAGE_NAMES, *_LATIN_ONLY), ()),
    **dict.fromkeys(("be", "bg", "kk", "mk", "mn", "ru", "sr", "uk"), ("Cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("Arabic",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("Devanagari",)),
    "bn": ("Bengali",),
    "el": ("Greek",),
    "he": ("Hebrew",),
    "hy": ("Armenian",),
    "ja": ("Kana", "Han"),
    "ka": ("Georgian",),
    "ko": ("Hangul", "Han"),
    "ta": ("Tamil",),
    "te": ("Telugu",),
    "th": ("Thai",),
    "zh": ("Han",),
}
"""Scripts beside the Latin one, which occurs everywhere, by ISO 639-1 code."""

_words = re.compile(r"[^\W\d_]+").findall


class LanguageCheck:
    """Finds texts in a language that is not expected.

    Args:
        languages: ISO 639-1 codes of the expected languages. Empty: nothing is refused. With one
            that is not known here: the same, since there is nothing to compare with.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        codes = {code.lower().split("-")[0] for code in languages}
        known = bool(codes) and codes <= _SCRIPTS.keys()
        expected_scripts = {script for code in codes for script in _SCRIPTS.get(code, ())}
        self._scripts = {
            script: re.compile(f"[{letters}]").findall
            for script, letters in _LETTER_RANGES.items()
            if known and script not in expected_scripts
        }
        self._expected = frozenset[str]().union(*(FUNCTION_WORDS.get(c, ()) for c in codes))
        candidates = _comparable(codes) - codes if known else set()
        self._foreign = {c: FUNCTION_WORDS[c] - self._expected for c in sorted(candidates)}
        self._any_foreign = frozenset[str]().union(*self._foreign.values())

    def foreign(self, text: str) -> str | None:
        """What speaks against the text ("written in Cyrillic letters", "German"), or None."""
        if not text.isascii():
            script = self._foreign_script(text)
            if script is not None:
                return f"written in {script} letters"
        lowered = text.lower()
        # Most texts of an expected language leave here. Splitting is four times as fast as the
        # expression below, and a text in a foreign language has some word without punctuation.
        if self._any_foreign.isdisjoint(lowered.split()):
            return None
        words = _words(lowered)
        if len(self._any_foreign.intersection(words)) < MIN_FOREIGN_WORDS:
            return None
        return self._foreign_language(words)

    def _foreign_script(self, text: str) -> str | None:
        counts = {script: len(letters(text)) for script, letters in self._scripts.items()}
        if 2 * sum(counts.values()) <= sum(map(str.isalpha, text)):
            return None
        script = max(counts, key=counts.__getitem__, default=None)
        return script if script and counts[script] >= MIN_FOREIGN_LETTERS else None

    def _foreign_language(self, words: list[str]) -> str | None:
        best, most = None, 0
        for language, foreign in self._foreign.items():
            hits = [word for word in words if word in foreign]
            if len(set(hits)) < MIN_FOREIGN_WORDS or len(hits) < MIN_FOREIGN_SHARE * len(words):
                continue
            # A word that both languages have speaks for neither.
            own = self._expected - FUNCTION_WORDS[language]
            if sum(word in own for word in words) > MOST_EXPECTED_SHARE * len(hits):
                continue
            if len(hits) > most:
                best, most = LANGUAGE_NAMES[language], len(hits)
        return best


def _comparable(expected: set[str]) -> set[str]:
    """Languages that function words may accuse.

    Where an expected language has no word list, its relatives of the same script are left
    alone: Norwegian would be taken for Danish, Bulgarian for Russian.
    """
    unlisted = {_SCRIPTS[code] for code in expected & _SCRIPTS.keys() - FUNCTION_WORDS.keys()}
    return {language for language in FUNCTION_WORDS if _SCRIPTS[language] not in unlisted}
