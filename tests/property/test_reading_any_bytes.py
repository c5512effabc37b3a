"""Whatever bytes a file holds: no crash, and every line is used or set aside as it was."""

from __future__ import annotations

import base64
import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgedistill.core.artefacts import Example
from edgedistill.core.errors import DataError
from edgedistill.data.reading import read_examples
from edgedistill.data.writing import write_examples

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip()
)
JSON_LINES = st.one_of(
    st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"")),
    TEXTS.map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode()),
    st.sampled_from([b"", b" ", b"{}", b'{"text": ""}', b"[]", b'{"text": 1e999}', b"\r", b"\x00"]),
)
CSV_PIECES = st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"a", b"bc", b"\xff", b"\r", b" "])


def read(path: Path, quarantine: Path) -> tuple[tuple[Example, ...], list[dict[str, Any]]]:
    rows = read_examples(path, text_column="text", label_column=None, quarantine=quarantine)
    if not quarantine.exists():
        return rows, []
    return rows, [json.loads(line) for line in quarantine.read_bytes().splitlines()]


def content_of(record: dict[str, Any]) -> bytes:
    if "content" in record:
        return bytes(record["content"].encode())
    return base64.b64decode(record["content_base64"])


@given(st.lists(JSON_LINES, max_size=8), st.booleans())
@example([b"\xef\xbb\xbf" + b'{"text": "a"}', b"x"], True)
@settings(deadline=None)
def test_json_lines(lines: list[bytes], ends: bool) -> None:
    lines = [b'{"text": "first"}', *lines]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join(lines) + (b"\n" if ends else b""))
        rows, records = read(path, Path(folder) / "q.jsonl")
    used = {int(row.id.split(":")[1]) for row in rows}
    aside = {record["line"]: content_of(record) for record in records}
    assert not used & set(aside)
    assert used | set(aside) == {n for n, line in enumerate(lines, 1) if line.strip()}
    assert all(lines[n - 1].removesuffix(b"\r") == content for n, content in aside.items())
    for row in rows:
        number = int(row.id.split(":")[1])
        assert json.loads(lines[number - 1])["text"] == row.text


@given(st.lists(CSV_PIECES, max_size=40))
@settings(deadline=None)
def test_delimited_rows_keep_every_letter(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(b"text\nfirst\n" + body)
        rows, records = read(path, Path(folder) / "q.jsonl")
    kept = Counter("".join(row.text for row in rows[1:]).encode())
    kept += Counter(b"".join(content_of(record) for record in records))
    assert {byte: kept[byte] for byte in b"abc\xff"} == {
        byte: body.count(byte) for byte in b"abc\xff"
    }


@given(st.binary(max_size=200), st.sampled_from(["jsonl", "csv", "tsv", "parquet"]))
@settings(deadline=None)
def test_any_bytes_give_rows_or_a_data_error(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{suffix}"
        path.write_bytes(content)
        with suppress(DataError):
            rows, _ = read(path, Path(folder) / "q.jsonl")
            assert rows


@given(st.lists(TEXTS, min_size=1, max_size=10))
@settings(deadline=None)
def test_written_examples_read_back(texts: list[str]) -> None:
    written = tuple(Example(str(i), text, None) for i, text in enumerate(texts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_examples(path, written)
        assert read_examples(path, text_column="text", label_column=None, id_column="id") == written
