"""What the words of a field become, and what they are refused for."""

from __future__ import annotations

import datetime
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.core.errors import BundleError
from edgedistill.runtime.extraction.fields import ExtractionSettings, Field, record_schema
from edgedistill.runtime.extraction.normalisers.catalogue import NORMALISERS
from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError
from edgedistill.runtime.extraction.normalisers.number import number_in_words

ENUM = {"values": {"open": ["outstanding"], "paid": ["settled", "Paid up"]}}
SETTINGS: dict[str, dict[str, Any]] = {
    "text": {},
    "number": {"decimal_mark": "."},
    "money": {"decimal_mark": ".", "currency": None},
    "date": {"date_order": "day_first"},
    "enumeration": ENUM,
    "pattern": {"pattern": r"INV-?(\d+)"},
}


def value(kind: str, text: str, **settings: Any) -> Any:
    return Field("f", kind, settings=SETTINGS[kind] | settings).value(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12), ("007", 7), ("1,234,567", 1_234_567), ("1 234.5", 1234.5), ("1'000", 1000),
        ("\u22123.25", -3.25), ("+4", 4), ("12\u202f000", 12_000), ("six", 6),
        ("Twenty-Five", 25), ("two hundred and five", 205), ("zero", 0),
        ("one million two hundred thousand and three", 1_200_003), ("ninety nine", 99),
    ],
)  # fmt: skip
def test_numbers(text: str, expected: float) -> None:
    found = value("number", text)
    assert found == expected
    assert isinstance(found, type(expected))


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "1,23", "1,2345", "12,345,67", "1 2", "1.2.3", "5%", "5k", "a dozen", "two three",
        "and", "hundred", "one hundred and", "thousand five thousand", "-five", "٣", "1e5", "nan",
        "1" * 16, "1" * 300, "five hundred hundred", "twenty twelve",
    ],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(NotNormalisedError):
        value("number", text)


def test_a_comma_as_decimal_mark() -> None:
    assert value("number", "1.234,5", decimal_mark=",") == 1234.5
    with pytest.raises(NotNormalisedError):
        value("number", "1,234.5", decimal_mark=",")


@given(st.integers(-(10**14), 10**14))
def test_grouped_numbers_are_read_back(number: int) -> None:
    assert value("number", f"{number:,}") == value("number", f"{number}") == number


def spoken(number: int) -> str:
    """A number below 10^12 in English words, written independently of the reader."""
    small = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
        "nineteen",
    ]  # fmt: skip
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand")):
        if number >= size:
            rest = f" {spoken(number % size)}" if number % size else ""
            return f"{spoken(number // size)} {name}{rest}"
    if number >= 100:
        rest = f" and {spoken(number % 100)}" if number % 100 else ""
        return f"{small[number // 100]} hundred{rest}"
    if number >= 20:
        return tens[number // 10 - 2] + (f"-{small[number % 10]}" if number % 10 else "")
    return small[number]


@given(st.integers(0, 10**12 - 1))
def test_numbers_in_words_are_read_back(number: int) -> None:
    assert number_in_words(spoken(number)) == number


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("€ 12.50", 12.5, "EUR"), ("12.50 €", 12.5, "EUR"), ("1,200 USD", 1200, "USD"),
        ("$5", 5, "USD"), ("US$ 5", 5, "USD"), ("-$3", -3, "USD"), ("£-3", -3, "GBP"),
        ("$5 USD", 5, "USD"), ("CHF 1'250.05", 1250.05, "CHF"), ("20 euros", 20, "EUR"),
        ("twenty dollars", 20, "USD"), ("12\u00a0000\u00a0EUR", 12_000, "EUR"),
    ],
)  # fmt: skip
def test_money(text: str, amount: float, currency: str) -> None:
    assert value("money", text) == {"amount": amount, "currency": currency}


@pytest.mark.parametrize(
    "text", ["12.50", "€", "", "5 bananas", "$5 EUR", "-$-5", "twenty", " " * 90 + "1" + " " * 90]
)
def test_what_is_no_money(text: str) -> None:
    with pytest.raises(NotNormalisedError):
        value("money", text)


def test_money_with_a_currency_of_the_task() -> None:
    assert value("money", "12.50", currency="EUR") == {"amount": 12.5, "currency": "EUR"}
    assert value("money", "£12", currency="EUR")["currency"] == "GBP"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-05", "2024-03-05"), ("5.3.2024", "2024-03-05"), ("05/03/24", "2024-03-05"),
        ("5 March 2024", "2024-03-05"), ("March 5th, 2024", "2024-03-05"),
        ("the 5th of  march 2024", "2024-03-05"), ("1-Sept-99", "1999-09-01"),
        ("29 Feb 2024", "2024-02-29"), ("may 1 2024", "2024-05-01"), ("3. Oct. 2024", "2024-10-03"),
    ],
)  # fmt: skip
def test_dates(text: str, expected: str) -> None:
    assert value("date", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "tomorrow", "5 March", "29 Feb 2023", "31.4.2024", "2024-13-01", "5.3/2024", "13",
        "0000-01-01", "march", "5 marchy 2024", "1.2.3.2024",
    ],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(NotNormalisedError):
        value("date", text)


@given(st.dates(datetime.date(1969, 1, 1), datetime.date(2068, 12, 31)))
def test_dates_are_read_back_in_every_form(day: datetime.date) -> None:
    forms = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%y", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y")
    assert {value("date", day.strftime(form)) for form in forms} == {day.isoformat()}
    american = Field("f", "date", settings={"date_order": "month_first"})
    assert american.value(day.strftime("%m/%d/%Y")) == day.isoformat()


def test_enumerations_and_patterns() -> None:
    assert value("enumeration", " OUTSTANDING ") == "open"
    assert value("enumeration", "paid\nup") == "paid"
    with pytest.raises(NotNormalisedError, match="none of the values"):
        value("enumeration", "unpaid")
    assert value("pattern", "INV-0042") == "0042"
    assert value("pattern", "ab12", pattern="[a-z]+[0-9]+") == "ab12"
    with pytest.raises(NotNormalisedError, match="does not match"):
        value("pattern", "see INV-0042")
    with pytest.raises(NotNormalisedError):
        value("pattern", "b", pattern="(a)|b")


@given(st.sampled_from(sorted(SETTINGS)), st.text(max_size=30))
def test_any_text_gives_a_value_of_the_schema_or_is_refused(kind: str, text: str) -> None:
    field = Field("f", kind, settings=SETTINGS[kind])
    try:
        found = field.value(text)
    except NotNormalisedError:
        return
    jsonschema.validate(found, field.schema)


def test_settings_survive_the_manifest() -> None:
    fields = tuple(
        Field(kind, kind, many=kind == "text", required=kind == "date", settings=settings)
        for kind, settings in SETTINGS.items()
    )
    settings = ExtractionSettings(fields, True, 0.25)
    again = ExtractionSettings.from_json(settings.as_json())
    assert again.as_json() == settings.as_json()
    assert set(SETTINGS) == set(NORMALISERS)
    schema = record_schema(fields)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"date": "2024-03-05", "text": ["a"]}, schema)
    for broken in ({}, {"date": "2024-03-05", "text": []}, {"date": "2024-03-05", "more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


@pytest.mark.parametrize(
    "value",
    [
        {}, {"fields": [{"name": "a", "normaliser": "os:system"}], "whole_words": True,
             "least_confidence": 0},
        {"fields": [{"name": "a", "normaliser": "pattern", "settings": {"pattern": "("}}],
         "whole_words": True, "least_confidence": 0},
    ],
)  # fmt: skip
def test_malformed_settings_are_refused(value: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="malformed"):
        ExtractionSettings.from_json(value)
