"""A grammar over tokens lets every text pass that the schema allows, and no other."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import small_llama
from edgedistill.core.errors import SpecError
from edgedistill.runtime.generation.json_grammar import json_grammar

pytest.importorskip("llguidance")

from edgedistill.runtime.generation.constraint import Constraints

TOKENIZER = small_llama.make_tokenizer()
CONSTRAINTS = Constraints(TOKENIZER.to_str(), 410, [small_llama.EOS])
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["re", "refund", "ref/und", 1, 12, None, "ä🙂"]},
        "n": {"type": "integer", "minimum": -3, "maximum": 120},
        "x": {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3},
        "any": True,
    },
    "required": ["n"],
    "additionalProperties": False,
}
NUMBERS = st.integers(-(10**15), 10**15) | st.floats(-1e9, 1e9).map(lambda x: round(x, 6))
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=2) | st.dictionaries(st.text(max_size=3), part, max_size=2)
    ),
    max_leaves=4,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(SCHEMA["properties"]["kind"]["enum"]) | st.text(max_size=3),
        "n": st.integers(-5, 125),
        "x": NUMBERS | st.text(max_size=6) | st.none() | st.booleans(),
        "tags": st.lists(st.text(max_size=4), max_size=4),
        "any": ANYTHING,
    },
)


def passes(text: str, schema: dict[str, Any]) -> bool:
    """Whether the text can be written token by token, and end there."""
    constraint = CONSTRAINTS.start(json_grammar(schema))
    for token in TOKENIZER.encode(text, add_special_tokens=False).ids:
        if not constraint.allowed()[token]:
            return False
        constraint.take(token)
    return bool(constraint.allowed()[small_llama.EOS])


@given(OBJECTS, st.booleans())
@example({"kind": "ref/und", "n": 12, "x": -0.5, "tags": ["", '"\\', "\n\t"]}, True)
@example({"kind": 1, "n": 1, "x": 1e-7, "any": {"a": [1, {"b": None}], "": ""}}, False)
@settings(max_examples=150, deadline=None)
def test_what_the_schema_allows_passes_and_nothing_else(
    value: dict[str, Any], spaced: bool
) -> None:
    ordered = {key: value[key] for key in SCHEMA["properties"] if key in value}
    separators = None if spaced else (",", ":")
    text = json.dumps(ordered, ensure_ascii=False, separators=separators)
    if "\x7f" in text:
        return  # the grammar has it escaped alone
    valid = not list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(ordered))
    assert passes(text, SCHEMA) == valid


@pytest.mark.parametrize(
    "text",
    ['{"n":1', '{"n":1}}', '{"n":01}', '{"n":1,}', '{"n": 1 }', ' {"n":1}', '{"x":2,"n":1}', ""],
)
def test_what_is_no_json_of_the_schema_does_not_pass(text: str) -> None:
    assert not passes(text, SCHEMA)


def test_a_place_can_be_left_in_two_directions() -> None:
    first = CONSTRAINTS.start('root ::= "a" | "bc"')
    second = first.copy()
    a, b, c = (TOKENIZER.token_to_id(letter) for letter in "abc")
    assert first.allowed().nonzero()[0].tolist() == sorted(
        i for i in range(400) if TOKENIZER.decode([i]) in ("a", "b", "bc") and i > 2
    )
    first.take(a)
    second.take(b)
    assert first.allowed().nonzero()[0].tolist() == [small_llama.EOS]
    assert second.allowed()[c]
    assert not second.allowed()[small_llama.EOS]


def test_a_step_that_is_not_allowed_is_an_error_for_good() -> None:
    constraint = CONSTRAINTS.start('root ::= "a"')
    with pytest.raises(SpecError, match="cannot be followed"):
        constraint.take(TOKENIZER.token_to_id("b"))
    with pytest.raises(SpecError):
        constraint.allowed()
