"""Texts with spans: read in every form, or listed by line with what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.core.errors import DataError
from edgedistill.core.extraction import Document, Documents, Span
from edgedistill.data.document_report import report_on_documents
from edgedistill.data.documents import DocumentColumns, read_documents

LABELS = {"item": True, "day": False}
TEXT = "two loaves and a roll for monday"


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def span(start: Any, end: Any, label: Any = "item", **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, **more}


def test_spans_are_read_in_the_order_of_the_text(tmp_path: Path) -> None:
    spans = [span(15, 21), span(0, 10, text="two loaves"), span(26, 32, "day")]
    path = write(tmp_path / "a.jsonl", {"text": TEXT, "spans": spans}, {"text": "x", "spans": []})
    rows = read_documents(path, labels=LABELS)
    assert rows[0].id == "a.jsonl:1"
    assert rows[0].spans == (Span(0, 10, "item"), Span(15, 21, "item"), Span(26, 32, "day"))
    assert rows[0].texts_of("day") == ["monday"]
    assert rows[1].spans == ()
    assert Document.from_json(json.loads(json.dumps(rows[0].as_json()))) == rows[0]


def test_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    spans = [span(0, 10), span(26, 32, "day")]
    quoted = json.dumps(spans).replace('"', '""')
    (tmp_path / "a.csv").write_text(f'id,words,found\n7,{TEXT},"{quoted}"\n', encoding="utf-8")
    table = pa.table({"id": [7], "words": [TEXT], "found": [spans]})
    pq.write_table(table, tmp_path / "a.parquet")
    columns = DocumentColumns("words", "found", "id")
    from_csv, from_parquet = (
        read_documents(tmp_path / f"a.{form}", labels=LABELS, columns=columns)
        for form in ("csv", "parquet")
    )
    assert from_csv == from_parquet
    assert from_csv[0].id == "7"
    assert len(from_csv[0].spans) == 2


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([span(0, 10), span(4, 14)], "spans overlap: item 'two loaves' and item 'loaves and'"),
        ([span(0, 3), span(0, 3)], "spans overlap"),
        ([span(0, 99)], "0 to 99 is no part of 32 characters"),
        ([span(-1, 3)], "-1 to 3 is no part"),
        ([span(5, 5)], "5 to 5 is no part"),
        ([span(3, 0)], "3 to 0 is no part"),
        ([span(0, 4)], "'two ' begins or ends with a blank"),
        ([span(0, 3, "itm")], "no field 'itm'; did you mean 'item'"),
        ([span(0, 3, 7)], "'label' is not a text"),
        ([span(0.0, 3)], "'start' is 0.0, not a whole number"),
        ([span(True, 3)], "not a whole number"),
        ([span(None, 3)], "not a whole number"),
        ([span(0, 3, text="one")], "its text is 'one', but 'two' stands there"),
        ([span(0, 3, "day"), span(26, 32, "day")], "2 spans of 'day', of which the task allows"),
        (["item"], "not an object"),
        ({"start": 0}, "not a list of spans"),
        (None, "not a list of spans"),
    ],
)
def test_malformed_rows_are_listed_by_line(tmp_path: Path, spans: Any, message: str) -> None:
    path = write(
        tmp_path / "a.jsonl", {"text": TEXT, "spans": [span(0, 3)]}, {"text": TEXT, "spans": spans}
    )
    with pytest.raises(DataError) as caught:
        read_documents(path, labels=LABELS)
    assert f"{path}:2: " in str(caught.value)
    assert message in str(caught.value)
    aside = tmp_path / "aside.jsonl"
    assert len(read_documents(path, labels=LABELS, quarantine=aside)) == 1
    assert message in json.loads(aside.read_text())["reason"]


def test_missing_spans_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "a", "spans": []}, {"text": "b"})
    with pytest.raises(DataError, match="a text without any has an empty list"):
        read_documents(path, labels=LABELS)
    with pytest.raises(DataError, match="no row has the column 'span'") as caught:
        read_documents(path, labels=LABELS, columns=DocumentColumns(spans="span"))
    assert "did you mean 'spans'? set data.spans_column" in str(caught.value)


def test_what_a_task_finds_wrong_is_listed_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "a", "spans": []}, {"text": "bad", "spans": []})
    with pytest.raises(DataError, match=r"a\.jsonl:2: it is bad"):
        read_documents(
            path, labels=LABELS, fault=lambda row: "it is bad" if row.text == "bad" else None
        )


@given(st.recursive(st.none() | st.integers(-3, 40) | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["start", "end", "label", "x"]), inner),
                    max_leaves=8))  # fmt: skip
def test_no_spans_raise_anything_else(value: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.jsonl", {"text": TEXT, "spans": value})
        try:
            spans, told = read_documents(path, labels=LABELS)[0].spans, ""
        except DataError as error:
            spans, told = (), str(error)
        assert all(TEXT[s.start : s.end].strip() for s in spans)
        assert "a.jsonl:1" in told or not told


def test_the_report_tells_what_to_mend() -> None:
    row = Document("a", "two rolls", (Span(0, 3, "day"),))
    rows = Documents(
        train=(row, row, Document("b", "Two rolls!", ()), Document("c", "x", ())),
        validation=(Document("d", "two rolls", ()),),
        test=(Document("e", "y", ()),),
    )
    report = report_on_documents(
        rows, {"item": False, "day": True}, {"day": ["'two' is no date"], "item": []},
        {"train": ["train.jsonl:9: broken"]},
    )  # fmt: skip
    told = "\n".join(sentence for severity, sentence in report.findings() if severity == "warning")
    for sentence in (
        "field 'item' has 0 training spans", "2 training rows lack the required field 'day'",
        "1 spans of 'day' give no value: 'two' is no date", "1 training rows stand twice",
        "1 training texts stand with different spans", "train.jsonl:9: broken",
        "1 texts of validation stand in the training split too",
    ):  # fmt: skip
        assert sentence in told
    assert report.as_json()["num_rows"] == {"train": 4, "validation": 1, "test": 1}
