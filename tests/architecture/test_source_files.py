"""Size and names of source files, and packages that an installation would lack."""

from __future__ import annotations

import statistics
from pathlib import Path

import edgedistill

SOURCE = Path(edgedistill.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
MOST_LINES, MOST_MEDIAN_LINES = 400, 150


def test_files_are_small() -> None:
    lines = {
        str(file.relative_to(SOURCE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in FILES
    }
    assert len(lines) > 80
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}
    assert statistics.median(lines.values()) <= MOST_MEDIAN_LINES


def test_files_are_named_for_what_they_hold() -> None:
    assert len(FILES) > 80
    names = [part for file in FILES for part in (*file.relative_to(SOURCE).parts[:-1], file.stem)]
    assert not FORBIDDEN_NAMES & set(names)


def test_every_folder_with_code_is_a_package_that_says_what_it_holds() -> None:
    # Without __init__.py a folder is left out of wheels and of the import contracts.
    folders = {file.parent for file in FILES}
    assert len(folders) > 12
    for folder in folders:
        start = folder / "__init__.py"
        assert start.is_file(), folder
        assert start.read_text(encoding="utf-8").startswith('"""'), start


def test_code_of_the_package_never_unpickles() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert "import pickle" not in text, file
        assert "torch.load(" not in text, file
        assert "allow_pickle=True" not in text, file
