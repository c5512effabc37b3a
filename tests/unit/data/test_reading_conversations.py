"""Reading conversations: every row is used or listed, whatever the file holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import DataError
from edgedistill.data.conversations import ConversationColumns, Preface, read_conversations

GOOD = {"prompt": "p", "response": "r"}


def write(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def message(role: str, content: str, **sections: str) -> dict[str, str]:
    return {"role": role, "content": content, **sections}


def test_rows_of_both_forms(tmp_path: Path) -> None:
    talk = [message("system", "s"), message("user", "u"),
            message("assistant", "a", draft="d", thinking="t")]  # fmt: skip
    path = write(tmp_path / "a.jsonl", [
        {"prompt": " p ", "response": "r\n", "metadata": {"domain": "Math", "n": 3}},
        {"prompt": "p", "draft": "d", "thinking": None, "response": "r"},
        {"messages": talk, "metadata": None},
    ])  # fmt: skip
    assert read_conversations(path) == (
        Conversation(
            "a.jsonl:1",
            (Turn("user", " p "), Turn("assistant", "r\n")),
            {"domain": "Math", "n": 3},
        ),
        Conversation("a.jsonl:2", (Turn("user", "p"), Turn("assistant", "r", "d"))),
        Conversation(
            "a.jsonl:3",
            (Turn("system", "s"), Turn("user", "u"), Turn("assistant", "a", "d", "t")),
        ),
    )


def test_csv_has_json_in_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "prompt,response,draft,metadata,messages\n"
        'p,r,,"{""domain"": ""Math""}",\n'
        ',,,,"[{""role"":""user"",""content"":""u""},{""role"":""assistant"",""content"":""a""}]"\n'
        "p,r,d,,\n",
        encoding="utf-8",
    )
    first, second, third = read_conversations(path)
    assert (first.metadata, first.is_hard) == ({"domain": "Math"}, False)
    assert [turn.content for turn in second.turns] == ["u", "a"]
    assert third.turns[-1] == Turn("assistant", "r", draft="d")


def test_parquet_has_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    talk = [message("user", "u"), message("assistant", "a")]
    parquet.write_table(
        pa.table({"messages": [talk, talk], "metadata": [{"domain": "Math"}, None]}), path
    )
    first, second = read_conversations(path)
    assert [turn.role for turn in first.turns] == ["user", "assistant"]
    assert (first.metadata, second.metadata) == ({"domain": "Math"}, {})
    parquet.write_table(pa.table({"prompt": ["p"], "response": ["r"], "thinking": [None]}), path)
    assert read_conversations(path)[0].response == "r"


def test_parquet_with_bytes_that_are_no_text(tmp_path: Path) -> None:
    broken = pa.array([b"\xff"]).cast(pa.binary()).view(pa.string())
    talk = pa.StructArray.from_arrays(
        [pa.array(["user"]), broken], names=["role", "content"]
    )  # fmt: skip
    table = pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 1]), talk)})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path)
    with pytest.raises(DataError, match="not valid UTF-8"):
        read_conversations(path)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("hello", "not JSON"),
        ({"response": "r"}, "no 'prompt'"),
        ({"prompt": " ", "response": "r"}, "'prompt' is empty"),
        ({"prompt": "p"}, "no 'response'"),
        ({"prompt": "p", "response": "\n"}, "'response' is empty"),
        ({"prompt": "p", "response": None}, "'response' is null"),
        ({"prompt": "p", "response": 3}, "'response' is not a text, but int 3"),
        ({"prompt": "p", "thinking": "t"}, "'thinking' without a 'response'"),
        ({"prompt": "p", "thinking": "t", "response": ""}, "'thinking' without a 'response'"),
        ({"prompt": "p", "draft": "t", "response": None}, "'draft' without a 'response'"),
        ({**GOOD, "thinking": ["t"]}, "'thinking' is not a text, but list"),
        ('{"prompt": "\\ud800", "response": "r"}', "surrogate"),
        ('{"prompt": "p", "response": "\\udfff"}', "surrogate"),
        ('{"prompt": "p", "response": "r", "draft": "\\udfff"}', "surrogate"),
        ('{"prompt": "p", "response": "r", "metadata": {"a": "\\udfff"}}', "cannot be kept"),
        ('{"prompt": "p", "response": "r", "metadata": {"a": NaN}}', "cannot be kept"),
        ({**GOOD, "metadata": [1]}, "'metadata' is not an object"),
        ({**GOOD, "metadata": "easy"}, "'metadata' is not JSON"),
        ({**GOOD, "messages": [message("user", "u")]}, "both 'messages' and 'prompt'"),
        ({"messages": []}, "'messages' is not a list of messages"),
        ({"messages": {"role": "user"}}, "'messages' is not a list of messages"),
        ({"messages": ["hello"]}, "message 1 is not an object"),
        ({"messages": [message("tool", "t")]}, "message 1: the role 'tool' is none of"),
        ({"messages": [{"role": "user"}]}, "message 1: no 'content'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "is not a text"),
        ({"messages": [message("user", "u", tool_calls="x")]}, "'tool_calls' is none of"),
        ({"messages": [message("user", "u"), message("assistant", "", thinking="t")]},
         "message 2: 'thinking' without a 'content'"),
        ({"messages": [message("user", "u", draft="d"), message("assistant", "a")]},
         "a user turn has a draft"),
        ({"messages": [message("user", "u")]}, "the last turn is not the assistant's"),
        ({"messages": [message("assistant", "a")]}, "turn 1 is of the role 'assistant'"),
        ({"messages": [message("user", "u"), message("system", "s"), message("assistant", "a")]},
         "turn 2 is of the role 'system', due is 'assistant'"),
        ({"messages": [message("user", "\udfff"), message("assistant", "a")]}, "surrogate"),
    ],
)  # fmt: skip
def test_a_malformed_row_is_refused_or_set_aside(tmp_path: Path, row: Any, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, row, GOOD])
    with pytest.raises(DataError) as caught:
        read_conversations(path)
    assert f"{path}:2: " in str(caught.value)
    assert reason in str(caught.value)
    assert "1 malformed row:" in str(caught.value)

    quarantine = tmp_path / "quarantine.jsonl"
    rows = read_conversations(path, quarantine=quarantine)
    assert [row.id for row in rows] == ["rows.jsonl:1", "rows.jsonl:3"]
    (record,) = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert record["line"] == 2
    assert reason in record["reason"]


def test_ids_may_not_stand_twice(tmp_path: Path) -> None:
    columns = ConversationColumns(id="question_id")
    rows = [{**GOOD, "question_id": i} for i in ("a", 7, "a")]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r":3: duplicate id 'a', first on line 1"):
        read_conversations(path, columns=columns)
    write(path, rows[:2])
    assert [row.id for row in read_conversations(path, columns=columns)] == ["a", "7"]


def test_columns_have_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "p", "answer": "r", "chat": None}])
    columns = ConversationColumns(prompt="question", response="answer", messages="chat")
    assert read_conversations(path, columns=columns)[0].response == "r"
    with pytest.raises(DataError, match="no row has the column 'prompt'") as caught:
        read_conversations(path)
    assert "'question', 'answer'" in str(caught.value)
    write(path, [{"prompts": "p", "response": "r"}])
    with pytest.raises(DataError, match="did you mean 'prompts'"):
        read_conversations(path)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_conversations(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="no rows"):
        read_conversations(write(tmp_path / "a.jsonl", []))
    bad = write(tmp_path / "a.jsonl", [{"prompt": "p", "response": ""}])
    with pytest.raises(DataError, match="not one row can be used"):
        read_conversations(bad, quarantine=tmp_path / "q.jsonl")
    with pytest.raises(DataError, match="quarantine is a file that is read"):
        read_conversations(bad, quarantine=bad)


def test_a_preface_for_every_prompt(tmp_path: Path) -> None:
    talk = [message("system", "own"), message("user", "u"), message("assistant", "a"),
            message("user", "v"), message("assistant", "b")]  # fmt: skip
    path = write(tmp_path / "a.jsonl", [GOOD, {"messages": talk}])
    first, second = read_conversations(path, preface=Preface("be brief", "Q: "))
    assert first.prompt == (Turn("system", "be brief"), Turn("user", "Q: p"))
    assert [turn.content for turn in second.turns] == ["own", "Q: u", "a", "v", "b"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "[]", '{"a": 1}']),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "draft", "x"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYS = ("prompt", "response", "draft", "thinking", "metadata", "messages")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.dictionaries(st.sampled_from(KEYS), JSON_VALUES), max_size=4))
def test_any_row_is_a_conversation_or_set_aside(tmp_path: Path, rows: list[Any]) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, *rows])
    quarantine = tmp_path / "quarantine.jsonl"
    quarantine.unlink(missing_ok=True)
    found = read_conversations(path, quarantine=quarantine)
    listed = quarantine.read_bytes().split(b"\n") if quarantine.exists() else []
    aside = [json.loads(line) for line in listed if line]
    lines = [int(row.id.rsplit(":", 1)[1]) for row in found] + [row["line"] for row in aside]
    assert sorted(lines) == list(range(1, len(rows) + 2))
