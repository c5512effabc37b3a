"""The quarantine file: nothing is lost, whatever happens around it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgedistill.core.artefacts import Example
from edgedistill.core.errors import DataError, StorageError
from edgedistill.data.malformed import MalformedRow, MalformedRows
from edgedistill.data.reading import read_examples


def row(line: int, content: bytes = b"raw") -> MalformedRow:
    return MalformedRow("rows.jsonl", line, "why", lambda: (content,))


def fill(path: Path, *rows: MalformedRow) -> None:
    with MalformedRows(path) as malformed:
        for each in rows:
            malformed.add(each)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read(path: Path, quarantine: Path) -> tuple[Example, ...]:
    return read_examples(path, text_column="text", label_column=None, quarantine=quarantine)


def test_rows_of_earlier_readings_stay_and_are_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    fill(path, row(1), row(2))
    fill(path, row(2), row(3), row(2, b"other"))
    assert [(r["line"], r["content"]) for r in lines_of(path)] == [
        (1, "raw"),
        (2, "raw"),
        (3, "raw"),
        (2, "other"),
    ]


def test_an_earlier_file_without_a_last_line_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"kept": 1}')
    fill(path, row(1))
    assert lines_of(path)[0] == {"kept": 1}
    assert len(lines_of(path)) == 2


def test_a_failed_reading_leaves_the_quarantine_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    fill(path, row(1))
    before = path.read_bytes()
    source = tmp_path.parent / f"{tmp_path.name}.jsonl"
    source.write_text("bad\n")
    with pytest.raises(DataError, match="not one row"):
        read(source, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_malformed_rows_make_no_file(tmp_path: Path) -> None:
    fill(tmp_path / "q.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_pieces_that_cut_a_character_are_joined(tmp_path: Path) -> None:
    text = 'é€😀"\\\n\x00'
    pieces = [bytes([byte]) for byte in text.encode()]
    fill(tmp_path / "q.jsonl", MalformedRow("f", 1, "why", lambda: pieces))
    assert lines_of(tmp_path / "q.jsonl")[0]["content"] == text


def test_the_file_that_is_read_cannot_be_the_quarantine(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\nbad\n')
    (tmp_path / "link.jsonl").symlink_to(path)
    for quarantine in (path, tmp_path / "link.jsonl"):
        with pytest.raises(DataError, match="file that is read"):
            read(path, quarantine)
    with pytest.raises(DataError, match="is a folder"):
        read(path, tmp_path)
    assert path.read_text() == '{"text": "a"}\nbad\n'


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\nbad\n')
    blocked = tmp_path / "blocked"
    blocked.mkdir(mode=0o500)
    if os.access(blocked, os.W_OK):
        blocked = Path("/sys")  # the superuser may write everywhere but here
    with pytest.raises(StorageError):
        read(path, blocked / "q.jsonl")


def test_a_full_disk_is_a_storage_error_and_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.jsonl"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="no room left"):
        fill(path, row(1))
    assert list(tmp_path.iterdir()) == []
