"""The task file of kind extraction: what it takes, and what it refuses with the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edgedistill.core.errors import SpecError
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.task_file import json_schema, load_task

MINIMAL: dict[str, Any] = {
    "name": "x",
    "kind": "extraction",
    "output": {"fields": [{"name": "total", "normaliser": "money"}, {"name": "item"}]},
    "data": {"files": {"train": "t.jsonl", "validation": "v.jsonl", "test": "e.jsonl"}},
    "teacher": {"source": "package:p"},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes, sort_keys=False), encoding="utf-8")
    return path


def test_a_minimal_file_gets_defaults(tmp_path: Path) -> None:
    spec = load_task(write(tmp_path))
    assert isinstance(spec, ExtractionSpec)
    assert spec.student.family == "truncated"
    assert spec.output.fields[0].settings() == {"currency": None, "decimal_mark": "."}
    assert spec.output.fields[1].settings() == {}
    jsonschema.validate(MINIMAL, json_schema("extraction"))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"name": "1st"}, "name: String should match pattern"),
        ({"name": "a", "normaliser": "dates"}, "normaliser: Input should be 'text'"),
        ({"name": "a", "nmaliser": "date"}, "unknown key\n  → did you mean 'normaliser'?"),
        ({"name": "a", "values": {"b": []}}, "values is for the normaliser enumeration alone"),
        ({"name": "a", "normaliser": "date", "currency": "EUR"}, "currency is for the normaliser"),
        ({"name": "a", "normaliser": "enumeration"}, "an enumeration needs values"),
        (
            {"name": "a", "normaliser": "enumeration", "values": {"b": ["X y"], "c": ["x  Y"]}},
            "'x  Y' means 'b' and 'c'",
        ),
        ({"name": "a", "normaliser": "pattern"}, "the normaliser pattern needs a pattern"),
        ({"name": "a", "normaliser": "pattern", "pattern": "("}, "no regular expression"),
        ({"name": "a", "normaliser": "money", "currency": "euro"}, "currency: String should"),
        ({"name": "item"}, "fields must have distinct names"),
    ],
)
def test_a_wrong_field_is_told_with_its_place(
    tmp_path: Path, field: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_task(write(tmp_path, output={"fields": [{"name": "item"}, field]}))
    assert message in str(caught.value)
    assert f"{tmp_path / 'task.yaml'}:" in str(caught.value)
    assert "output" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": {"fields": []}}, "output.fields"),
        ({"data": {"files": {"train": "t.jsonl"}}}, "files needs train, validation and test"),
        ({"teacher": {"source": "package:p", "num_epochs": -1}}, "teacher.num_epochs"),
        ({"student": {"family": "static"}}, "student.family"),
        ({"requirements": {"retention": 2}}, "requirements.retention"),
    ],
)
def test_wrong_sections_are_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_task(write(tmp_path, **changes))
    assert message in str(caught.value)


FIELD = {"name": "total"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": {"fields": [FIELD], "labels": [{"name": "total"}]}}, "names of their own"),
        (
            {"output": {"fields": [FIELD], "labels": [{"name": "kind", "values": ["a"]}]}},
            "output.labels.0: at least two values",
        ),
        (
            {"output": {"fields": [FIELD], "labels": [{"name": "kind", "values": ["a", "a"]}]}},
            "values must be distinct",
        ),
        (
            {"output": {"fields": [FIELD], "labels": [{"name": "kind", "values": ["a", " "]}]}},
            "one of them is empty",
        ),
        ({"heads": {"balance": True}}, "nothing to weigh without output.labels"),
        (
            {
                "output": {"fields": [FIELD], "labels": [{"name": "kind"}]},
                "heads": {"label_weights": {"kid": 2.0}},
            },
            "the output has no label 'kid', but kind",
        ),
        (
            {
                "output": {"fields": [FIELD], "labels": [{"name": "kind"}]},
                "heads": {"label_weights": {"kind": 0}},
            },
            "heads.label_weights.kind: Input should be greater than 0",
        ),
    ],
)
def test_what_cannot_be_labelled_or_weighed_is_told(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_task(write(tmp_path, **changes))
    assert "task.yaml" in str(caught.value)
    assert message in str(caught.value)
