"""What counts as an answer: whole, not a loop, as the schema asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.runtime.generation.written import SchemaCheck, fault, repeated_end, schema_check

SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("well " + "so it goes " * 10, "so it goes"),
        ("ha " * 30, "ha"),
        ("すもも" * 12, "すもも"),
        ("a" * 40, "a"),
        ("x " + "one two three four five six seven eight " * 4, "one two three four five six seven"
         " eight"),
    ],
)  # fmt: skip
def test_a_loop_at_the_end_is_found(text: str, piece: str) -> None:
    assert repeated_end(text) == piece


@pytest.mark.parametrize(
    "text",
    ["", "no no no", "a b c d e f g h i j k l m n o p q r s t u v w x y z", "1 2 1 2 1 2 1 2", "…",
     "ha " * 30 + "and then it was over", '{"items":[{"n":1},{"n":1},{"n":1}]}'],
)  # fmt: skip
def test_what_is_no_loop_passes(text: str) -> None:
    assert repeated_end(text) is None


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    repeated_end(text)
    assert SchemaCheck({"type": "integer"}).fault(text) is None or text.strip() != "7"


def test_the_first_fault_is_told() -> None:
    def told(
        text: str, *, finished: bool = True, schema: dict[str, object] | None = SCHEMA
    ) -> str | None:
        found = fault(text, finished=finished, max_new_tokens=9, check=schema_check(schema))
        return found[0] if found else None

    assert told('{"n":3}') is None
    assert told("anything at all", schema=None) is None
    assert told('{"n":3', finished=False) == "unfinished"
    assert told("ha " * 30, finished=False) == "repeats"
    assert told("", finished=False) == "unfinished"
    for empty in ("", " \n"):
        assert told(empty) == told(empty, schema=None) == "says_nothing"
    for wrong in ('{"n":0}', '{"n":1,"m":2}', "{}", "[]", '{"n":3', '{"n":NaN}'):
        assert told(wrong) == "breaks_schema", wrong


def test_a_fault_names_the_place() -> None:
    assert SchemaCheck(SCHEMA).fault('{"n":0}') == "n: 0 is less than the minimum of 1"
    assert (SchemaCheck(SCHEMA).fault("{") or "").startswith("not JSON")
