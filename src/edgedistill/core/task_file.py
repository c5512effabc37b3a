"""Read a task file: every complaint names file, line and key, and says what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from edgedistill.core.errors import EdgeDistillError, SpecError
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.core.task import TaskSpec

#: The form of a task file by its kind; a file that names none is a classification.
FORMS: dict[str, type[TaskSpec] | type[GenerationSpec] | type[ExtractionSpec]] = {
    "classification": TaskSpec,
    "extraction": ExtractionSpec,
    "generation": GenerationSpec,
}
Key = tuple[str | int, ...]


def load_task(
    path: Path, changes: Mapping[str, Any] | None = None
) -> TaskSpec | GenerationSpec | ExtractionSpec:
    """The validated task of a YAML file.

    Args:
        changes: sections that take the place of the file's; None: the file's is left out.

    Raises:
        SpecError: unreadable, not YAML, or not a valid task; lists every fault, not the first.
    """
    value, root = _parsed(path)
    lines = _key_lines(root)
    value = {k: v for k, v in {**value, **(changes or {})}.items()
             if v is not None or k not in (changes or {})}  # fmt: skip
    kind = value.get("kind", "classification")
    form = FORMS.get(kind) if isinstance(kind, str) else None
    if form is None:
        raise SpecError(
            f"kind: no kind of task is called {kind!r}",
            where=f"{path}:{lines[('kind',)]}",
            fix=f"one of: {', '.join(FORMS)}",
        )
    try:
        return form.model_validate(value)
    except ValidationError as error:
        raise SpecError("\n".join(_complaints(path, error, lines, form))) from error


def place_of(path: Path, *key: str | int) -> str:
    """`FILE:LINE` of a key in a task file that loads; the file alone where the key is left out."""
    lines = _key_lines(yaml.compose(_read(path), Loader=yaml.SafeLoader))
    return f"{path}:{lines[key]}" if key in lines else str(path)


def read_values(path: Path) -> dict[str, Any]:
    """What stands in a task file, not validated.

    Raises:
        SpecError: unreadable, or not YAML.
    """
    return _parsed(path)[0]


def json_schema(kind: str = "classification") -> dict[str, Any]:
    """The JSON Schema of the task file of a kind, for editors."""
    if kind not in FORMS:
        raise SpecError(f"no kind of task is called {kind!r}", fix=f"one of: {', '.join(FORMS)}")
    schema = FORMS[kind].model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "EdgeDistill task file"
    return schema


def _parsed(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """Values and nodes of a YAML file with keys, each of which stands once."""
    text = _read(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _yaml_error(path, error) from error
    if not isinstance(value, dict):
        raise SpecError("the file holds no keys", where=f"{path}", fix="see 'edgedistill init'")
    _refuse_duplicate_keys(path, root)
    return value, root


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(
            "no such task file", where=str(path), fix="'edgedistill init NAME' makes one"
        ) from error
    except IsADirectoryError as error:
        raise SpecError(
            "this is a folder", where=str(path), fix=f"name the file: {path / 'task.yaml'}"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError("not valid UTF-8", where=str(path), fix="save the file as UTF-8") from error
    except OSError as error:
        raise SpecError(f"cannot be read ({error.strerror})", where=str(path)) from error


def _yaml_error(path: Path, error: yaml.YAMLError) -> EdgeDistillError:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    problem = getattr(error, "problem", None) or str(error)
    return SpecError(f"not valid YAML: {problem}", where=where, fix="check indentation and quotes")


def _key_lines(node: yaml.Node | None, key: Key = ()) -> dict[Key, int]:
    """Line (from 1) of every key and list item in the file."""
    lines: dict[Key, int] = {}
    if isinstance(node, yaml.MappingNode):
        for name, child in node.value:
            lines[(*key, name.value)] = name.start_mark.line + 1
            lines |= _key_lines(child, (*key, name.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*key, index)] = child.start_mark.line + 1
            lines |= _key_lines(child, (*key, index))
    return lines


def _refuse_duplicate_keys(path: Path, node: yaml.Node | None) -> None:
    """YAML readers keep the last of two equal keys in silence: refuse instead."""
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicate_keys(path, child)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for name, child in node.value:
        if name.value in seen:
            raise SpecError(
                f"key {name.value!r} stands twice",
                where=f"{path}:{name.start_mark.line + 1}",
                fix="keep one of them",
            )
        seen.add(name.value)
        _refuse_duplicate_keys(path, child)


def _complaints(
    path: Path, error: ValidationError, lines: dict[Key, int], form: type[BaseModel]
) -> list[str]:
    complaints = []
    for fault in error.errors(include_url=False):
        message = fault["msg"].removeprefix("Value error, ")
        loc, message = _place_of(fault["loc"], message)
        key, known = _key_in_file(loc, lines)
        where = f"{path}:{lines[known]}" if known else str(path)
        name = ".".join(str(part) for part in key) or "task"
        if fault["type"] == "extra_forbidden":
            message = f"unknown key{_suggestion(fault['loc'], form)}"
        elif fault["type"] == "missing":
            message = "this key is required"
        elif fault["type"] == "union_tag_not_found":
            message = "an entry needs a name"
        elif fault["type"] == "union_tag_invalid":
            tag, known_tags = fault["ctx"]["tag"], fault["ctx"]["expected_tags"].replace("'", "")
            message = f"no strategy is called {tag!r}\n  → one of: {known_tags}"
        elif "input" in fault and not isinstance(fault["input"], dict):
            message += f", not {fault['input']!r}"
        complaints.append(f"{where}: {name}: {message}")
    return complaints


def _place_of(loc: Key, message: str) -> tuple[Key, str]:
    """Where a fault is, and what it is: what concerns the whole task begins with its key."""
    key, colon, what = message.partition(": ")
    if (
        loc
        or not colon
        or not all(part.isidentifier() or part.isdigit() for part in key.split("."))
    ):
        return loc, message
    return tuple(int(part) if part.isdigit() else part for part in key.split(".")), what


def _key_in_file(key: Key, lines: dict[Key, int]) -> tuple[Key, Key]:
    """A fault's key as the file writes it, and as much of it as stands there.

    Between two keys pydantic names what is no key: the form that a mapping has by its `name`, and
    the place in a list that the file leaves out for its only entry.
    """
    known: Key = ()
    for part in key:
        if (*known, part) in lines:
            known = (*known, part)
    last = key[-1:]
    return (known if known[-1:] == last else (*known, *last)), known


def _suggestion(key: Sequence[str | int], form: type[BaseModel]) -> str:
    """The known keys beside an unknown one, the nearest first."""
    sections: list[type[BaseModel]] = [form]
    for part in key[:-1]:
        if isinstance(part, int):
            continue
        inner = [s.model_fields[part].annotation for s in sections if part in s.model_fields]
        # Of the forms that an entry may have, the one of its name.
        sections = _forms(*inner) or [s for s in sections if _name_of(s) == part]
    names = list(dict.fromkeys(name for s in sections for name in s.model_fields))
    if not names:
        return ""
    near = difflib.get_close_matches(str(key[-1]), names, n=1)
    if near:
        return f"\n  → did you mean {near[0]!r}?"
    return f"\n  → one of: {', '.join(names)}"


def _forms(*annotations: Any) -> list[type[BaseModel]]:
    """The models within type annotations."""
    found: list[type[BaseModel]] = []
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        else:
            found += _forms(*getattr(annotation, "__args__", ()))
    return found


def _name_of(form: type[BaseModel]) -> Any:
    return form.model_fields["name"].default if "name" in form.model_fields else None
