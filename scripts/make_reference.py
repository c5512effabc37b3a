"""Write docs/reference from the code: the task file, its JSON Schema, the exit codes.

python scripts/make_reference.py            writes the files that differ
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedistill.core import errors
from edgedistill.core.compression import FILE_PASSES, STRUCTURAL
from edgedistill.core.task_file import json_schema
from edgedistill.models.families import FAMILIES
from edgedistill.train.distill.strategies import STRATEGIES

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
MADE = (
    "<!-- Written by scripts/make_reference.py from the code; change the code, not this file. -->"
)

Schema = Mapping[str, Any]


def documents() -> dict[Path, str]:
    """Every generated file with its contents."""
    schema, generation = json_schema(), json_schema("generation")
    extraction = json_schema("extraction")
    return {
        REFERENCE / "task-file.md": task_file(schema),
        REFERENCE / "task-file-extraction.md": extraction_task_file(extraction),
        REFERENCE / "task-file-extraction.schema.json": json.dumps(extraction, indent=2) + "\n",
        REFERENCE / "task-file-generation.md": generation_task_file(generation),
        REFERENCE / "task-file-generation.schema.json": json.dumps(generation, indent=2) + "\n",
        REFERENCE / "task-file.schema.json": json.dumps(schema, indent=2) + "\n",
        REFERENCE / "exit-codes.md": exit_codes(),
    }


def task_file(schema: Schema) -> str:
    """The reference of the task file."""
    parts = [
        MADE,
        "# The task file",
        "A task is one YAML file. Every key that the file may have stands here; an unknown key is "
        "refused. Paths are relative to the folder of the task file. `edgedistill schema` prints "
        "the same as JSON Schema ([task-file.schema.json](task-file.schema.json)); with a YAML "
        "language server, this first line gives completion and checks while you type:",
        "```yaml\n# yaml-language-server: $schema=docs/reference/task-file.schema.json\n```",
        "A complete example: "
        "[examples/support_desk/task.yaml](../../examples/support_desk/task.yaml).",
    ]
    for path, section in sections(schema):
        parts += [f"## {path or 'Top level'}", _flat(section["description"])]
        parts.append(_table(section, schema, path))
    return "\n\n".join([*parts, *_strategies(schema), *_passes(schema), *_families()]) + "\n"


def generation_task_file(schema: Schema) -> str:
    """The reference of the task file of kind `generation`."""
    parts = [
        MADE,
        "# The task file of kind generation",
        "A task with `kind: generation` has these keys, and no others. Everything said in [the "
        "task file](task-file.md) holds here too; `edgedistill schema --kind generation` prints "
        "the JSON Schema ([task-file-generation.schema.json](task-file-generation.schema.json)). "
        "A complete example: [examples/bakery/task.yaml](../../examples/bakery/task.yaml).",
    ]
    for path, section in sections(schema):
        parts += [f"## {path or 'Top level'}", _flat(section["description"])]
        parts.append(_table(section, schema, path))
    return "\n\n".join(parts) + "\n"


def extraction_task_file(schema: Schema) -> str:
    """The reference of the task file of kind `extraction`."""
    parts = [
        MADE,
        "# The task file of kind extraction",
        "A task with `kind: extraction` has these keys, and no others. Everything said in [the "
        "task file](task-file.md) holds here too; `edgedistill schema --kind extraction` prints "
        "the JSON Schema ([task-file-extraction.schema.json](task-file-extraction.schema.json)). "
        "`student.options` takes the keys of [the family](task-file.md#truncated), "
        "`distillation.strategy` [the strategies](task-file.md#strategies-of-distillation), and "
        "`compress.passes` [the passes](task-file.md#passes-of-compression). How it is used: "
        "[extract fields](../how-to/extract-fields.md).",
    ]
    for path, section in sections(schema):
        parts += [f"## {path or 'Top level'}", _flat(section["description"])]
        parts.append(_table(section, schema, path))
    return "\n\n".join(parts) + "\n"


def sections(
    schema: Schema, section: Schema | None = None, path: str = ""
) -> Iterator[tuple[str, Schema]]:
    """Every section with its dotted path, each before its parts."""
    section = section or schema
    yield path, section
    for key, value in section["properties"].items():
        if inner := _referred(value, schema):
            yield from sections(schema, inner, f"{path}.{key}" if path else key)


def exit_codes() -> str:
    """The reference of the exit codes."""
    families: dict[int, list[str]] = {}
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.EdgeDistillError) and kind is not errors.EdgeDistillError:
            families.setdefault(kind.exit_code, []).append(f"`{kind.__name__}`")
    rows = [
        (str(code), _cell(meaning), ", ".join(sorted(families.get(code, []))))
        for code, meaning in errors.EXIT_CODES.items()
    ]
    return "\n\n".join([
        MADE,
        "# Exit codes",
        "Every command ends with one of these. In Python the same families are exceptions in "
        "`edgedistill.core.errors`; each has `what`, `where` and `fix`.",
        _markdown_table(("Code", "Meaning", "Exceptions"), rows),
    ]) + "\n"  # fmt: skip


def _strategies(schema: Schema) -> list[str]:
    parts = [
        "## Strategies of distillation",
        "What an entry of `distillation.strategy` may say besides its `name`. "
        "[Choose a strategy](../how-to/choose-a-strategy.md) tells what each needs.",
    ]
    for name in STRATEGIES:
        form = next(
            each for each in schema["$defs"].values()
            if each["properties"].get("name", {}).get("const") == name
        )  # fmt: skip
        settings = {key: value for key, value in form["properties"].items() if key != "name"}
        table = _table({"properties": settings}, schema, "")
        parts += [f"### {name}", _flat(form["description"]), table]
    return parts


def _passes(schema: Schema) -> list[str]:
    parts = [
        "## Passes of compression",
        "What an entry of `compress.passes` may say besides its `name`. "
        "[Compress a model](../how-to/compress-a-model.md) tells when to take which. Passes on the "
        f"file ({', '.join(f'`{name}`' for name in FILE_PASSES)}) have no settings.",
    ]
    for name in STRUCTURAL:
        form = next(
            each for each in schema["$defs"].values()
            if each["properties"].get("name", {}).get("const") == name
        )  # fmt: skip
        settings = {key: value for key, value in form["properties"].items() if key != "name"}
        parts += [f"### {name}", _flat(form["description"])]
        parts += [_table({"properties": settings}, schema, "")] if settings else []
    return parts


def _families() -> list[str]:
    parts = [
        "## Options of the student families",
        "`student.options` takes the keys of the family that `student.family` names. With `auto` "
        "the presets are tried instead.",
    ]
    for name in FAMILIES:
        family = FAMILIES.load(name)
        schema = family.config.model_json_schema()
        purpose = _first_sentence(sys.modules[family.config.__module__].__doc__ or "")
        presets = "; ".join(
            f"`{preset}` ({_settings(options)})" for preset, options in family.presets.items()
        )
        parts += [f"### {name}", purpose, f"Presets: {presets}.", _table(schema, schema, "")]
    return parts


def _settings(options: Mapping[str, Any]) -> str:
    if "passes" in options:
        return ", ".join(each["name"] for each in options["passes"])
    return ", ".join(f"{k}: {json.dumps(v)}" for k, v in options.items()) or "the defaults"


def _table(section: Schema, schema: Schema, path: str) -> str:
    required = section.get("required", [])
    rows = []
    for key, value in section["properties"].items():
        inner = _referred(value, schema)
        meaning = value.get("description") or (inner or {})["description"]
        if inner:
            place = f"{path}.{key}" if path else key
            plain = "see there" if value.get("default", {}) else "left out"
            link = f"[section](#{_anchor(place)})"
            if "items" in value:
                plain, link = "empty", f"list of {link}"
            default = "**required**" if key in required else plain
            rows.append((f"`{key}`", link, default, _cell(meaning)))
        else:
            default = "**required**" if key in required else f"`{json.dumps(value['default'])}`"
            rows.append((f"`{key}`", _cell(_type(value)), _left_out(default), _cell(meaning)))
    return _markdown_table(("Key", "Type", "Default", "Meaning"), rows)


def _left_out(default: str) -> str:
    return {"`null`": "left out", '`""`': "empty", "`[]`": "empty", "`{}`": "empty"}.get(
        default, default
    )


def _type(value: Schema) -> str:
    """A JSON Schema type in words."""
    if "oneOf" in value:
        return "mapping"
    if "anyOf" in value:
        single = [part for part in value["anyOf"] if part.get("type") != "array"]
        alone = [_type(part) for part in single if "const" in part]
        listed = {"anyOf": [part for part in single if "const" not in part]}
        if listed in [part.get("items") for part in value["anyOf"]]:
            return " or ".join([*alone, f"{_type(listed)}, or a list of these"])
        kinds = [_type(part) for part in value["anyOf"] if part.get("type") != "null"]
        # Where leaving the key out means something else, null must be written to say "none".
        is_said = len(kinds) < len(value["anyOf"]) and value.get("default") is not None
        return " or ".join([*kinds, "`null`"] if is_said else kinds)
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return " or ".join(f"`{choice}`" for choice in value["enum"])
    if "prefixItems" in value:
        return f"[{', '.join(_type(item) for item in value['prefixItems'])}]"
    if value["type"] == "array":
        return f"list of {_type(value['items'])}"
    names = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "object": "mapping",
        "boolean": "true or false",
    }
    limits = [
        f"{sign} {_number(value[key])}"
        for key, sign in (
            ("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤")
        )
        if key in value
    ]  # fmt: skip
    if "pattern" in value:
        limits.append(f"`{value['pattern']}`")
    return " ".join([names[value["type"]], ", ".join(limits)]).strip()


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _referred(value: Schema, schema: Schema) -> Schema | None:
    """The section that a property holds, if it holds one or a list of them."""
    for part in (value, value.get("items", {}), *value.get("anyOf", ())):
        if "$ref" in part:
            found: Schema = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
            return found
    return None


def _markdown_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _anchor(heading: str) -> str:
    return heading.replace(".", "")


def _first_sentence(text: str) -> str:
    return _flat(text.split("\n\n")[0])


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _flat(text).replace("|", "\\|")


def main() -> int:
    for path, text in documents().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
