"""JSON Schema to GBNF, llama.cpp's grammars: what is not understood is refused, never dropped.

The wheel's own `json_schema_to_grammar` hands schemas to LLGuidance, which lets *any* text pass
when it cannot read or meet a schema. Here a schema is met, or there is a SpecError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from edgedistill.core.errors import SpecError

_ANNOTATIONS = frozenset({
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default",
    "examples", "deprecated", "readOnly", "writeOnly",
})  # fmt: skip
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum"},
    "boolean": set(),
    "null": set(),
}
_MAX_ALTERNATIVES = 1000
_MAX_REPEATS = 1000
_SHARED = {
    "gap": '" "?',
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\""',
    "natural": '"0" | [1-9] [0-9]{0,15}',
    "integer": '"-"? natural',
    "fraction": '("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
    "number": "integer fraction",
    "positive": "natural fraction",
    "boolean": '"true" | "false"',
    "null": '"null"',
    "member": 'string ":" gap value',
    "object": '"{" (member ("," gap member)*)? "}"',
    "array": '"[" (value ("," gap value)*)? "]"',
    "value": "object | array | string | number | boolean | null",
    "date": '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    "time": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] "Z"',
}
_FORMATS = {"date": "date", "time": "time", "date-time": 'date "T" time'}


def json_grammar(schema: dict[str, Any]) -> str:
    """GBNF for the JSON texts that `schema` allows, on one line, properties in the schema's order.

    Supported: type (also lists), enum, const, anyOf, oneOf, $ref within the schema, objects
    (properties, required), arrays (items, minItems, maxItems), strings (minLength, maxLength,
    format date, time, date-time), integers (bounds), numbers (minimum 0), booleans, null.
    Properties that a schema would allow but does not name are not generated, unless it names
    none. Where options of oneOf overlap, and for the calendar in dates, check the answer too.

    Raises:
        SpecError: a keyword that is not supported, or a schema that nothing can meet.
    """
    grammar = _Grammar(schema)
    grammar.rules["root"] = ""  # the first line
    try:
        grammar.rules["root"] = grammar.of(schema, "#")
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _refused(f"it is not a JSON schema ({error})", "#") from error
    used, queue = dict(grammar.rules), list(grammar.rules.values())
    while queue:
        body = queue.pop()
        for name in _SHARED.keys() - used.keys():
            if name in _words(body):
                used[name] = _SHARED[name]
                queue.append(_SHARED[name])
    return "\n".join(f"{name} ::= {body}" for name, body in used.items())


def _words(body: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "-" else " " for c in body).split())


class _Grammar:
    """Rules of one schema; `of` gives the expression of a part and adds the rules it needs."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.rules: dict[str, str] = {}
        self._references: dict[str, str] = {}

    def of(self, schema: Any, where: str) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise _refused("nothing meets this part", where)
        keys = set(schema) - _ANNOTATIONS
        for keyword, build in self._combined().items():
            if keyword in keys:
                if extra := keys - {keyword, "type"}:
                    raise _refused(f"{keyword} beside {', '.join(sorted(extra))}", where)
                return build(schema[keyword], f"{where}/{keyword}")
        if not keys:
            return "value"
        kinds = schema["type"] if "type" in keys else self._implied(keys, where)
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if unknown := [kind for kind in kinds if kind not in _KEYWORDS]:
            raise _refused(f"the type {unknown[0]!r}", where)
        allowed = {"type"}.union(*(_KEYWORDS[kind] for kind in kinds))
        if extra := keys - allowed:
            raise _refused(f"{', '.join(sorted(extra))}", where)
        return _either([self._typed(kind, schema, where) for kind in kinds], where)

    def _combined(self) -> dict[str, Callable[[Any, str], str]]:
        return {
            "$ref": self._reference,
            "const": lambda value, _: _literal(value),
            "enum": lambda values, where: _either([_literal(v) for v in values], where),
            "anyOf": self._options,
            "oneOf": self._options,
        }

    @staticmethod
    def _implied(keys: set[str], where: str) -> str:
        fitting = [kind for kind, known in _KEYWORDS.items() if keys and keys <= known]
        if not fitting:
            raise _refused(f"{', '.join(sorted(keys))} without a type", where)
        return fitting[0]

    def _options(self, options: list[Any], where: str) -> str:
        return _either([self.of(o, f"{where}/{i}") for i, o in enumerate(options)], where)

    def _reference(self, reference: str, where: str) -> str:
        if reference not in self._references:
            target = self.schema
            try:
                if not reference.startswith("#"):
                    raise KeyError
                for step in reference.lstrip("#").strip("/").split("/"):
                    target = target[step] if step else target
            except (KeyError, TypeError):
                raise _refused(f"{reference!r}, which is not in the schema", where) from None
            name = self._references[reference] = f"ref{len(self._references)}"
            self.rules[name] = self.of(target, reference)
        return self._references[reference]

    def _typed(self, kind: str, schema: dict[str, Any], where: str) -> str:
        build: dict[str, Callable[[dict[str, Any], str], str]] = {
            "object": self._object,
            "array": self._array,
            "string": _string,
            "integer": _integer,
            "number": _number,
        }
        return build[kind](schema, where) if kind in build else kind

    def _array(self, schema: dict[str, Any], where: str) -> str:
        least, most = _range(schema, "minItems", "maxItems", where)
        item = f"({self.of(schema.get('items', True), where + '/items')})"
        if most == 0:
            return '"[]"'
        more = _repeated(f'("," gap {item})', max(least - 1, 0), most and most - 1)
        rest = f"{item} {more}"
        return f'"[" {rest} "]"' if least else f'"[" ({rest})? "]"'

    def _object(self, schema: dict[str, Any], where: str) -> str:
        properties = schema.get("properties", {})
        required = list(schema.get("required", []))
        closed = schema.get("additionalProperties", True) is False
        unnamed = [name for name in required if name not in properties]
        if unnamed and closed:
            raise _refused(f"the required property {unnamed[0]!r} is not allowed", where)
        if isinstance(schema.get("additionalProperties"), dict):
            raise _refused("additionalProperties with a schema", where)
        properties = properties | dict.fromkeys(unnamed, True)
        if not properties:
            return '"{}"' if closed else "object"
        members = [
            (f'{_literal(name)} ":" gap ({self.of(part, f"{where}/properties/{name}")})',
             name in required)
            for name, part in properties.items()
        ]  # fmt: skip
        return '"{" ' + self._members(members) + ' "}"'

    def _members(self, members: Sequence[tuple[str, bool]]) -> str:
        """Members in order, those not required left out at will, commas between."""
        after_first, after_other = '""', '""'  # what may follow; nothing yet, or something, before
        for text, is_required in reversed(members):
            other = f'"," gap {text} {after_other}'
            first = f"{text} {after_other}"
            if not is_required:
                other, first = f"{other} | {after_other}", f"{first} | {after_first}"
            after_other, after_first = self._rule(other), self._rule(first)
        return after_first

    def _rule(self, body: str) -> str:
        name = f"part{len(self.rules)}"
        self.rules[name] = body
        return name


def _string(schema: dict[str, Any], where: str) -> str:
    least, most = _range(schema, "minLength", "maxLength", where)
    if "format" in schema:
        if schema["format"] not in _FORMATS or least or most is not None:
            raise _refused(f"the format {schema['format']!r} (with lengths)", where)
        return rf'"\"" {_FORMATS[schema["format"]]} "\""'
    if not least and most is None:
        return "string"
    return rf'"\"" {_repeated("char", least, most)} "\""'


def _integer(schema: dict[str, Any], where: str) -> str:
    lows = [schema[k] + d for k, d in (("minimum", 0), ("exclusiveMinimum", 1)) if k in schema]
    highs = [schema[k] - d for k, d in (("maximum", 0), ("exclusiveMaximum", 1)) if k in schema]
    low, high = max(lows, default=None), min(highs, default=None)
    if low is None and high is None:
        return "integer"
    if high is None and low == 0:
        return "natural"
    if low is None or high is None or low != int(low) or high != int(high):
        raise _refused("integers with this bound (both, or minimum 0 alone)", where)
    if high - low >= _MAX_ALTERNATIVES:
        raise _refused(f"a range of more than {_MAX_ALTERNATIVES} integers", where)
    return _either([f'"{value}"' for value in range(int(low), int(high) + 1)], where)


def _number(schema: dict[str, Any], where: str) -> str:
    if "minimum" not in schema:
        return "number"
    if schema["minimum"] != 0:
        raise _refused("numbers with a minimum other than 0", where)
    return "positive"


def _range(schema: dict[str, Any], low: str, high: str, where: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    if most is not None and least > most:
        raise _refused(f"nothing meets {low} {least} and {high} {most}", where)
    if max(least, most or 0) > _MAX_REPEATS:
        raise _refused(f"a length above {_MAX_REPEATS}", where)
    return least, most


def _repeated(part: str, least: int, most: int | None) -> str:
    if most == 0:
        return '""'
    return f"{part}{{{least},{'' if most is None else most}}}"


def _either(options: Sequence[str], where: str) -> str:
    if not options:
        raise _refused("nothing meets this part", where)
    return options[0] if len(options) == 1 else f"({' | '.join(options)})"


def _literal(value: Any) -> str:
    """The JSON text of `value` as a quoted GBNF text."""
    # A raw DEL is JSON, but not every reader of grammars takes one.
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _refused(what: str, where: str) -> SpecError:
    return SpecError(
        f"the JSON schema cannot become a grammar: {what}",
        where=where,
        fix="leave that out and check the answer afterwards, or say it in other keywords",
    )
