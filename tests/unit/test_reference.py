"""What docs/reference says is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import edgedistill
from edgedistill.core.errors import EXIT_CODES
from edgedistill.core.task_file import json_schema

PROJECT = Path(edgedistill.__file__).parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = PROJECT / "scripts" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_reference_is_what_the_code_generates(reference: ModuleType) -> None:
    documents = reference.documents()
    assert len(documents) == 7
    for path, text in documents.items():
        assert path.read_text(encoding="utf-8") == text, "run scripts/make_reference.py"


def test_every_key_and_option_has_a_meaning(reference: ModuleType) -> None:
    page = reference.task_file(json_schema())
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert [cells for cells in rows if not cells[3].strip(" |")] == []
    for section, _ in reference.sections(json_schema()):
        assert f"## {section or 'Top level'}\n" in page


def test_every_exit_code_stands_in_its_page(reference: ModuleType) -> None:
    page = reference.exit_codes()
    assert [code for code in EXIT_CODES if f"| {code} |" not in page] == []
    assert "| 3 | data wrong | `DataError` |" in page
