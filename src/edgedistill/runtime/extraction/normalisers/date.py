"""Dates with day, month and year."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError, shown

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_NAME = "(?P<name>" + "|".join(f"{m[:3]}(?:{m[3:]})?" for m in _MONTHS) + "|sept)[.]?"
_DAY, _YEAR = "(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?[.]?", "(?P<year>[0-9]{4}|'?[0-9]{2})"
_FORMS = (
    re.compile(r"(?P<year>[0-9]{4})(?P<by>[-/.])(?P<month>[0-9]{1,2})(?P=by)(?P<day>[0-9]{1,2})"),
    re.compile(rf"(?:the )?{_DAY}[ -]?(?:of )?{_NAME}[, -]*{_YEAR}"),
    re.compile(rf"{_NAME} ?(?:the )?{_DAY},? {_YEAR}"),
)
_NUMBERS = re.compile(
    r"(?P<first>[0-9]{1,2})(?P<by>[-/.])(?P<second>[0-9]{1,2})(?P=by)(?P<year>[0-9]{4}|[0-9]{2})"
)
#: Years of two digits below it are of this century (POSIX strptime).
PIVOT = 69


class Date:
    """2024-03-05; 5.3.2024; 05/03/24; 5 March 2024; March 5th, 2024; to ISO 8601.

    Reads `date_order`: how 5/3/2024 is read. A date without a year, or a relative one, abstains.
    """

    schema: ClassVar[dict[str, Any]] = {
        "type": "string",
        "format": "date",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._day_first = settings["date_order"] == "day_first"

    def __call__(self, text: str) -> str:
        words = " ".join(text.casefold().split())
        year, month, day = self._parts(words, text)
        try:
            return datetime.date(year, month, day).isoformat()
        except ValueError as error:
            raise NotNormalisedError(f"{shown(text)} is no day of the calendar") from error

    def _parts(self, words: str, text: str) -> tuple[int, int, int]:
        if found := _NUMBERS.fullmatch(words):
            first, second = int(found["first"]), int(found["second"])
            day, month = (first, second) if self._day_first else (second, first)
            return _year(found["year"]), month, day
        for form in _FORMS:
            if found := form.fullmatch(words):
                known = found.groupdict()
                month = int(known["month"]) if "month" in known else _month(known["name"])
                return _year(found["year"]), month, int(found["day"])
        raise NotNormalisedError(f"{shown(text)} is no date with day, month and year")


def _month(name: str) -> int:
    return next(n for n, month in enumerate(_MONTHS, 1) if month.startswith(name[:3]))


def _year(digits: str) -> int:
    year = int(digits.strip("'"))
    if len(digits.strip("'")) == 4:
        return year
    return year + (2000 if year < PIVOT else 1900)
