"""JSON Schema as a grammar: what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from edgedistill.core.errors import SpecError
from edgedistill.runtime.generation.json_grammar import json_grammar


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"enum": []}, "nothing meets"),
        (False, "nothing meets"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "nothing meets"),
        ({"type": "string", "minLength": 4, "maxLength": 3}, "nothing meets"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "nothing meets"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a'"),
        ({"type": "string", "pattern": "a+"}, "pattern"),
        ({"type": "string", "format": "ipv4"}, "ipv4"),
        ({"not": {"type": "string"}}, "not without a type"),
        ({"allOf": [{"type": "string"}]}, "allOf"),
        ({"type": "object", "if": {}}, "if"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "integer", "multipleOf": 3}, "multipleOf"),
        ({"type": "integer", "minimum": 7}, "bound"),
        ({"type": "integer", "minimum": 0, "maximum": 10**6}, "more than 1000"),
        ({"type": "number", "minimum": 0.5}, "minimum other than 0"),
        ({"type": "strin"}, "strin"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"$ref": "https://example.org/a.json"}, "example.org"),
        ({"anyOf": [{"type": "null"}], "minimum": 3}, "beside minimum"),
        ({"type": "object", "additionalProperties": {"type": "null"}}, "additionalProperties"),
        ([1], "nothing meets"),
        ({"type": "string", "minLength": "a"}, "not a JSON schema"),
        ({"type": "object", "properties": 3}, "not a JSON schema"),
        ({"const": float("nan")}, "not a JSON schema"),
    ],
    ids=str,
)
def test_what_cannot_be_met_or_understood_is_refused(schema: Any, named: str) -> None:
    with pytest.raises(SpecError, match="cannot become a grammar") as caught:
        json_grammar(schema)
    assert named in str(caught.value)


def test_the_place_is_named() -> None:
    schema = {"properties": {"a": {"type": "array", "items": {"type": "string", "pattern": "x"}}}}
    with pytest.raises(SpecError) as caught:
        json_grammar(schema)
    assert str(caught.value).startswith("#/properties/a/items:")


def test_annotations_change_nothing() -> None:
    plain = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    noted = plain | {"title": "T", "description": "d", "$schema": "s", "examples": [1]}
    assert json_grammar(noted) == json_grammar(plain)


def test_texts_are_quoted_as_the_grammar_reads_them() -> None:
    assert json_grammar({"const": 'a"\\\n'}) == r'root ::= "\"a\\\"\\\\\\n\""'


def test_references_may_be_recursive() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    grammar = json_grammar({"$defs": {"node": node}, "$ref": "#/$defs/node"})
    assert grammar.splitlines()[0] == "root ::= ref0"
    assert grammar.count("ref0 ::=") == 1
