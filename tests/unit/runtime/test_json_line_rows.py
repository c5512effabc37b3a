"""Rows of texts, as JSON Lines or plain."""

from __future__ import annotations

import pytest

from edgedistill.core.errors import DataError
from edgedistill.runtime.json_lines import read_rows


def test_json_rows_keep_their_other_keys() -> None:
    lines = ['{"text": "a", "label": "x"}\n', "\n", '{"text": "b", "id": 7}\n']
    expected = [{"text": "a", "label": "x"}, {"text": "b", "id": 7}]
    assert list(read_rows(lines, where="f")) == expected
    assert list(read_rows(lines, where="f", plain=True)) == expected


def test_plain_lines_are_texts() -> None:
    lines = ["{curly} words\n", "second\r\n", '{"text": "not parsed"}']
    found = [row["text"] for row in read_rows(lines, where="f", plain=True)]
    assert found == ["{curly} words", "second", '{"text": "not parsed"}']


@pytest.mark.parametrize("broken", ["{", "[]", '"text"', '{"txt": "a"}', "plain", "[" * 100_000])
@pytest.mark.parametrize("plain", [False, True])
def test_a_broken_row_is_named_by_its_line(broken: str, plain: bool) -> None:
    lines = ['{"text": "a"}', "", broken]
    with pytest.raises(DataError) as caught:
        list(read_rows(lines, where="rows.jsonl", plain=plain))
    assert caught.value.where == "rows.jsonl, line 3"
