"""Reading: every row is used or listed, whatever the file holds."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from edgedistill.core.artefacts import Example
from edgedistill.core.errors import DataError
from edgedistill.data.reading import read_examples

GOOD = b'{"text": "hello", "label": "greet"}\n'


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path, **settings: Any) -> tuple[Example, ...]:
    return read_examples(path, **{"text_column": "text", "label_column": "label"} | settings)


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        read(path, **settings)
    return str(error.value)


def records(quarantine: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in quarantine.read_bytes().split(b"\n") if line]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "héllo, you", "label": "x"}\n\n{"text": " b ", "label": "y"}'),
        ("a.JSONL", '\ufeff{"text": "héllo, you", "label": "x"}\r\n\r\n{"text":" b ","label":"y"}'),
        ("a.csv", 'label,text\r\nx,"héllo, you"\r\n\r\ny, b \r\n'),
        ("a.csv", '\ufefflabel,text\nx,"héllo, you"\n\ny, b '),
        ("a.tsv", "text\textra\tlabel\nhéllo, you\t1\tx\n\n b \t2\ty\n"),
    ],
)
def test_text_forms_give_the_same_rows(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path / name, content.encode())
    rows = read(path)
    assert [(row.text, row.label) for row in rows] == [("héllo, you", "x"), (" b ", "y")]
    first = 1 if name.lower().endswith("jsonl") else 2
    assert [row.id for row in rows] == [f"{name}:{first}", f"{name}:{first + 2}"]


def test_csv_fields_may_hold_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'text,label\n"say ""hi""\nthen, go",a\nnext,b\n')
    rows = read(path)
    assert [(row.text, row.id) for row in rows] == [
        ('say "hi"\nthen, go', "a.csv:2"),
        ("next", "a.csv:4"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello", "not JSON"),
        (b'["hello"]', "not a JSON object, but a list"),
        (b"null", "not a JSON object, but null"),
        (b'{"label": "a"}', "no 'text'"),
        (b'{"text": "  ", "label": "a"}', "'text' is empty"),
        (b'{"text": null, "label": "a"}', "'text' is null"),
        (b'{"text": ["x"], "label": "a"}', "'text' is not a text"),
        (b'{"text": "x"}', "no 'label'"),
        (b'{"text": "x", "label": ""}', "'label' is empty"),
        (b'{"text": "x", "label": 3}', "'label' is not a text, but int 3"),
        (b'{"text": "x", "text": "y", "label": "a"}', "key 'text' stands twice"),
        (b'{"text": "\\ud800", "label": "a"}', "surrogate"),
        (b'{"text": "\xff", "label": "a"}', "not valid UTF-8 (byte 11)"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"text": ' + b"1" * 5000 + b"}", "not usable JSON"),
        (b'{"text": "' + b"x" * 1_000_000 + b'", "label": "a"}', "longer than 1 MB"),
    ],
)
def test_a_malformed_line_is_refused_or_set_aside_whole(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD + line + b"\n" + GOOD)
    message = refusal(path)
    assert f"{path}:2: " in message
    assert reason in message
    assert "1 malformed row:" in message
    assert "quarantine" in message

    quarantine = tmp_path / "run" / "quarantine.jsonl"
    rows = read(path, quarantine=quarantine)
    assert [row.id for row in rows] == ["rows.jsonl:1", "rows.jsonl:3"]
    (record,) = records(quarantine)
    assert (record["file"], record["line"]) == (str(path), 2)
    assert reason in record["reason"]
    if "content" in record:
        assert record["content"].encode() == line
    else:
        assert base64.b64decode(record["content_base64"]) == line
        assert b"\xff" in line


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize(("length", "is_read"), [(1_000_000, True), (1_000_001, False)])
def test_the_longest_line(tmp_path: Path, length: int, is_read: bool, end: bytes) -> None:
    frame = b'{"text": "", "label": "a"}'
    line = frame.replace(b'""', b'"' + b"x" * (length - len(frame)) + b'"')
    path = write(tmp_path / "rows.jsonl", GOOD + line + end)
    quarantine = tmp_path / "q.jsonl"
    rows = read(path, quarantine=quarantine)
    assert len(rows) == 1 + is_read
    if not is_read:
        assert records(quarantine)[0]["content"].encode() == line


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize("filler", [b"\xe2\x82\xac", b"\xff"])
def test_a_10_mb_line_takes_no_memory(tmp_path: Path, suffix: str, filler: bytes) -> None:
    long = b"y" + filler * (10_000_000 // len(filler))
    head = b"text,label\nhello,greet\n" if suffix == "csv" else GOOD
    path = write(tmp_path / f"rows.{suffix}", head + long + b"\n" + head.splitlines(True)[-1])
    quarantine = tmp_path / "q.jsonl"
    tracemalloc.start()
    try:
        rows = read(path, quarantine=quarantine)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(rows) == 2
    assert peak < 9_500_000  # bytes held at once: pieces, not the line and its copies
    (record,) = records(quarantine)
    kept = record.get("content", "").encode() or base64.b64decode(record["content_base64"])
    assert kept == long


def test_the_first_twenty_of_many_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD + b"bad\n" * 1234)
    message = refusal(path)
    assert "1,234 malformed rows, the first 20:" in message
    assert f"{path}:21:" in message
    assert f"{path}:22:" not in message


def test_duplicate_ids(tmp_path: Path) -> None:
    lines = [{"text": "a", "label": "x", "id": i} for i in ("u", 7, "7", "v")]
    path = write(tmp_path / "r.jsonl", "\n".join(json.dumps(line) for line in lines).encode())
    assert f"{path}:3: duplicate id '7', first on line 2" in refusal(path, id_column="id")
    rows = read(path, id_column="id", quarantine=tmp_path / "q.jsonl")
    assert [row.id for row in rows] == ["u", "7", "v"]


@pytest.mark.parametrize("identity", [True, 1.5, None, ""])
def test_ids_are_texts_or_whole_numbers(tmp_path: Path, identity: object) -> None:
    good = {"text": "a", "label": "x", "id": 1}
    content = f"{json.dumps(good)}\n{json.dumps(good | {'id': identity})}"
    assert "'id' is" in refusal(write(tmp_path / "r.jsonl", content.encode()), id_column="id")


def test_without_a_label_column_labels_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", b'{"text": "a", "label": 3}\n{"text": "b"}\n')
    assert [row.label for row in read(path, label_column=None)] == [None, None]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b"", "holds no rows"),
        ("a.jsonl", b"\n \n", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"text,label\n", "holds no rows"),
        ("a.csv", b"text,text\na,b\n", "column 'text' stands twice"),
        ("a.csv", b'text,"label\n', "header is not readable"),
        ("a.csv", b"text,lab\xffel\na,b\n", "header is not UTF-8"),
        ("a.csv", b"text;label\na;b\n", "no row has the column 'label'"),
        ("a.jsonl", b'{"text": "a", "Label": "b"}\n', "did you mean 'Label'? set data.label_col"),
        ("a.jsonl", "x".encode("utf-16"), "UTF-16"),
        ("a.parquet", b"no parquet", "not a readable Parquet file"),
        ("a.parquet", b"", "not a readable Parquet file"),
        ("a.json", b"[]", "one of: .jsonl, .csv, .tsv, .parquet"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    path = write(tmp_path / name, content)
    for quarantine in (None, tmp_path / "q.jsonl"):
        message = refusal(path, quarantine=quarantine)
        assert complaint in message
        assert str(path) in message
    assert not (tmp_path / "q.jsonl").exists()


def test_a_file_of_malformed_rows_alone_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", b"bad\n{\n")
    message = refusal(path, quarantine=tmp_path / "q.jsonl")
    assert "not one row can be used" in message
    assert f"{path}:2" in message
    assert [p.name for p in tmp_path.iterdir()] == ["r.jsonl"]


def test_missing_files_name_near_ones(tmp_path: Path) -> None:
    assert "holds no file" in refusal(tmp_path / "train.jsonl")
    write(tmp_path / "train.jsonl", GOOD)
    assert "did you mean train.jsonl?" in refusal(tmp_path / "trian.jsonl")
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "train.jsonl")
    assert "this is a folder" in refusal(tmp_path)


def test_names_that_lead_to_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("x" * 300 + ".jsonl", "nul\0.jsonl", "loop.jsonl", "train.jsonl/x.jsonl"):
        write(tmp_path / "train.jsonl", GOOD)
        assert name in refusal(tmp_path / name)
    assert "not a regular file" in refusal(tmp_path / "pipe.jsonl")


def test_csv_goes_on_after_a_stray_quote(tmp_path: Path) -> None:
    content = b'text,label\n"never closed,a\nb,x\n"c, d",y\ne "quoted" f,z\n"g"h,w\ni,x,x\nj\nk,x\n'
    path = write(tmp_path / "rows.csv", content)
    quarantine = tmp_path / "q.jsonl"
    rows = read(path, quarantine=quarantine)
    assert [row.text for row in rows] == ["b", "c, d", 'e "quoted" f', "k"]
    assert [record["line"] for record in records(quarantine)] == [2, 6, 7, 8]
    assert records(quarantine)[0]["content"] == '"never closed,a'
    assert records(quarantine)[2]["reason"] == "3 fields, the header has 2"


def test_csv_quote_open_until_a_long_line_or_the_end_loses_no_row(tmp_path: Path) -> None:
    long = b"z" * 1_200_000
    path = write(tmp_path / "r.csv", b'text,label\n"open,a\nb,x\n' + long + b'\nc,x\n"open,a\nd,x')
    quarantine = tmp_path / "q.jsonl"
    rows = read(path, quarantine=quarantine)
    assert [row.text for row in rows] == ["b", "c", "d"]
    assert [record["line"] for record in records(quarantine)] == [2, 4, 6]


def test_csv_row_of_several_lines_that_is_not_utf8_is_kept_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", b'text,label\n"a\nb\xfe",x\nc,y\n')
    quarantine = tmp_path / "q.jsonl"
    assert [row.text for row in read(path, quarantine=quarantine)] == ["c"]
    assert base64.b64decode(records(quarantine)[0]["content_base64"]) == b'"a\nb\xfe",x'


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.utf8())]
)
def test_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    texts = [f"text {i}" for i in range(600)]
    table = pa.table({"n": range(600), "text": pa.array(texts).cast(kind), "label": ["a"] * 600})
    path = tmp_path / "rows.parquet"
    parquet.write_table(table, path)
    rows = read(path, id_column="n")
    assert [row.text for row in rows] == texts
    assert rows[-1] == Example("599", "text 599", "a")


def test_malformed_parquet_rows_are_listed_by_number_with_all_columns(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"not utf-8 \xff", None, b"x" * 1_000_001], pa.binary())
    labels = pa.array(["a", "b", "c", "d"])
    columns = {"text": raw.view(pa.string()), "label": labels, "blob": pa.array([b"\x00\xff"] * 4)}
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table(columns), path)
    quarantine = tmp_path / "q.jsonl"
    assert [row.text for row in read(path, quarantine=quarantine)] == ["fine"]
    broken, null, long = records(quarantine)
    assert [r["line"] for r in (broken, null, long)] == [2, 3, 4]
    content = json.loads(broken["content"])
    assert base64.b64decode(content["text"]["base64"]) == b"not utf-8 \xff"
    assert content["label"] == "b"
    assert base64.b64decode(content["blob"]["base64"]) == b"\x00\xff"
    assert json.loads(null["content"])["text"] is None
    assert len(json.loads(long["content"])["text"]) == 1_000_001


def test_numeric_parquet_labels_are_refused_and_missing_columns_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"text": ["a"], "label": [1]}), path)
    assert "'label' is not a text, but int 1" in refusal(path)
    assert "set data.text_column to one of: 'label', 'text'" in refusal(path, text_column="query")
