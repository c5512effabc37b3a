"""Numbers in digits, or in English words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError, shown

#: Digits that a number of JSON holds exactly in every reader (IEEE double).
MOST_DIGITS = 15
_BLANKS = " \u00a0\u2009\u202f"
_UNITS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}


class Number:
    """12; 1,234.5; 1'234; -3; twenty-five; two hundred and five.

    Reads `decimal_mark`: "." or ",". Thousands may be grouped by the other mark, an apostrophe or
    a blank, but then everywhere and by threes: "1.5" is never fifteen.
    """

    schema: ClassVar[dict[str, Any]] = {"type": "number"}

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._mark = settings["decimal_mark"]
        decimals = rf"(?:{re.escape(self._mark)}[0-9]+)?"
        other = "," if self._mark == "." else "."
        grouped = rf"[0-9]{{1,3}}(?:(?P<by>[{re.escape(other)}'’{_BLANKS}])[0-9]{{3}})" \
                  rf"(?:(?P=by)[0-9]{{3}})*"  # fmt: skip
        self._digits = re.compile(rf"[+-]?(?:{grouped}|[0-9]+){decimals}")

    def __call__(self, text: str) -> int | float:
        words = text.strip().replace("\u2212", "-")
        if self._digits.fullmatch(words):
            return self._of_digits(words, text)
        value = number_in_words(words)
        if value is None:
            raise NotNormalisedError(f"{shown(text)} is not a number")
        return value

    def _of_digits(self, words: str, text: str) -> int | float:
        whole, _, decimals = words.partition(self._mark)
        digits = re.sub(r"[^0-9+-]", "", whole)
        if len((digits + decimals).strip("+-").lstrip("0")) > MOST_DIGITS:
            raise NotNormalisedError(f"{shown(text)} has more than {MOST_DIGITS} digits")
        return float(f"{digits}.{decimals}") if decimals else int(digits)


def number_in_words(text: str) -> int | None:
    """The number that English words say, below 10^12; None where they say none."""
    words = text.casefold().replace("-", " ").split()
    if words == ["zero"]:
        return 0
    if text.strip().startswith("-"):
        return None
    total, group, scale_before, after_scale = 0, 0, 10**12, False
    for place, word in enumerate(words):
        if word == "and":
            # It joins what follows a hundred or a scale, and ends nothing.
            if not after_scale or place == len(words) - 1:
                return None
            after_scale = False
            continue
        if word in _SCALES:
            if not group or _SCALES[word] >= scale_before:
                return None
            scale_before = _SCALES[word]
            total, group, after_scale = total + group * scale_before, 0, True
            continue
        added = _extended(group, word)
        if added is None:
            return None
        group, after_scale = added, word == "hundred"
    return total + group if total + group else None


def _extended(group: int, word: str) -> int | None:
    """A number below 1,000 with one more word; None where the word cannot follow."""
    rest = group % 100
    if word == "hundred":
        return 100 * group if 0 < group < 10 else None
    if word in _TENS:
        return group + _TENS[word] if rest == 0 else None
    value = _UNITS.get(word)
    if value is None:
        return None
    fits = rest == 0 or (value < 10 and rest >= 20 and rest % 10 == 0)
    return group + value if fits else None
