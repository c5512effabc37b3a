"""An amount and its currency."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError, shown
from edgedistill.runtime.extraction.normalisers.number import Number

#: Marks and English names; three capital letters are taken as an ISO 4217 code.
CURRENCIES = {
    "€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "₩": "KRW", "₺": "TRY",
    "₽": "RUB", "₴": "UAH", "us$": "USD", "a$": "AUD", "c$": "CAD", "euro": "EUR", "euros": "EUR",
    "dollar": "USD", "dollars": "USD", "pound": "GBP", "pounds": "GBP", "yen": "JPY",
    "franc": "CHF", "francs": "CHF", "rupee": "INR", "rupees": "INR",
}  # fmt: skip
_PARTS = re.compile(r"(?P<sign>[+-]?)(?P<before>[^0-9+-]*?)\s*(?P<amount>[+-]?[0-9].*?)"
                    r"\s*(?P<after>[^\s0-9.,'’]*)")  # fmt: skip
_WORDS = re.compile(r"(?P<amount>.+?)\s+(?P<after>\S+)")


class Money:
    """€ 12.50; 1,200 USD; -$3; twenty euros.

    Reads `decimal_mark` and `currency`, which is meant where the words name none. A "$" alone is
    the US dollar.
    """

    schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "amount": {"type": "number"},
            "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        },
        "required": ["amount", "currency"],
        "additionalProperties": False,
    }

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._number = Number(settings)
        self._currency = settings.get("currency")

    def __call__(self, text: str) -> dict[str, Any]:
        words = " ".join(text.split()).replace("\u2212", "-")
        parts = _PARTS.fullmatch(words) or _WORDS.fullmatch(words)
        if parts is None:
            raise NotNormalisedError(f"{shown(text)} is no amount of money")
        found = parts.groupdict(default="")
        marks = [found[key] for key in ("before", "after") if found.get(key)]
        named: set[str | None] = {_code(mark, text) for mark in marks} or {self._currency}
        if len(named) > 1 or None in named:
            what = "several currencies" if len(named) > 1 else "no currency"
            raise NotNormalisedError(f"{shown(text)} names {what}")
        amount = self._number(found["amount"])
        sign = found.get("sign", "")
        if sign and amount < 0:
            raise NotNormalisedError(f"{shown(text)} has two signs")
        return {"amount": -amount if sign == "-" else amount, "currency": named.pop()}


def _code(mark: str, text: str) -> str:
    mark = mark.strip()
    code = CURRENCIES.get(mark.casefold())
    if code is None and re.fullmatch("[A-Z]{3}", mark):
        code = mark
    if code is None:
        raise NotNormalisedError(f"{shown(text)}: {shown(mark)} is no currency that is known")
    return code
