"""The task file: every fault with file, line, key and what would be right."""

from pathlib import Path

import pytest

from edgedistill.core.errors import SpecError
from edgedistill.core.task_file import json_schema, load_task

MINIMAL = "name: x\ndata:\n  files: {train: a.jsonl}\nteacher:\n  source: package:p\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def fault(folder: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_task(write(folder, text))
    return str(caught.value)


def test_minimal_file_gets_defaults(tmp_path: Path) -> None:
    spec = load_task(write(tmp_path, MINIMAL))
    assert spec.student.family == "auto"
    assert spec.boundary.false_abstention_rate == 0.05


def test_spec_is_frozen(tmp_path: Path) -> None:
    spec = load_task(write(tmp_path, MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "y"  # type: ignore[misc]


def test_unknown_key_names_line_and_suggests(tmp_path: Path) -> None:
    message = fault(tmp_path, MINIMAL + "requirments:\n  retention: 0.9\n")
    assert "task.yaml:6" in message
    assert "did you mean 'requirements'?" in message


def test_nested_unknown_key_suggests_within_its_section(tmp_path: Path) -> None:
    message = fault(tmp_path, MINIMAL + "boundary:\n  out_of_bounds:\n    tests: x\n")
    assert "task.yaml:8: boundary.out_of_bounds.tests" in message
    assert "'test'" in message


def test_every_fault_is_listed(tmp_path: Path) -> None:
    message = fault(tmp_path, "name: Bad Name\nteacher: {source: a, num_epochs: -1}\n")
    assert "name:" in message
    assert "teacher.num_epochs" in message
    assert "data: this key is required" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no keys"),
        ("- a\n- b\n", "holds no keys"),
        ("name: [x\n", "not valid YAML"),
        (MINIMAL + "name: y\n", "stands twice"),
        (MINIMAL + "student: {family: auto, options: {a: 1}}\n", "options need a family"),
        (MINIMAL + "output: {labels: [a, a]}\n", "distinct"),
        (MINIMAL + "input: {min_characters: 9, max_characters: 3}\n", "must not exceed"),
        (MINIMAL + "schema_version: 2\n", "schema_version"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in fault(tmp_path, text)


def test_both_sources_of_data_are_refused(tmp_path: Path) -> None:
    text = MINIMAL.replace("data:\n", "data:\n  hub: a/b\n")
    assert "exactly one" in fault(tmp_path, text)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(SpecError, match="UTF-8"):
        load_task(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such task file"):
        load_task(tmp_path / "nothing.yaml")
    with pytest.raises(SpecError, match="folder"):
        load_task(tmp_path)


def test_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    sections = schema["$defs"].values()
    assert len(sections) > 8
    assert all(section["additionalProperties"] is False for section in sections)
