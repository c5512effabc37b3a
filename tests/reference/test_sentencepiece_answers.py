"""A SentencePiece tokenizer begins every text with a space: an answer has none, grammar or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from edgedistill.export.gguf import write_gguf
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession
from small_tokenizers import STORIES, needs_stories

pytest.importorskip("xllamacpp")
pytestmark = needs_stories
BEGIN = [1]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppSession]:
    tokenizer = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    file: Path = tmp_path_factory.mktemp("stories") / "model.gguf"
    write_gguf(STORIES, tokenizer, to=file, kind="f32")
    with LlamaCppSession(file, context=128) as found:
        yield found


def test_an_answer_is_what_its_ids_decode_to(session: LlamaCppSession) -> None:
    tokenizer = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    pieces: list[str] = []
    whole = session.generate(BEGIN, max_new_tokens=20, begins_text=True, on_text=pieces.append)
    assert whole.ids is not None
    assert whole.text == tokenizer.decode(list(whole.ids)) == "".join(pieces)
    assert session.generate(BEGIN, max_new_tokens=20).text == " " + whole.text


@pytest.mark.parametrize("choice", [["Once upon", "Lily had"], ["cat"]])
def test_a_grammar_lets_the_space_be_written(session: LlamaCppSession, choice: list[str]) -> None:
    grammar = "root ::= " + " | ".join(f'"{text}"' for text in choice)
    found = session.generate(BEGIN, max_new_tokens=12, grammar=grammar, begins_text=True)
    assert found.text in choice
    assert found.ids is not None
    # With the space that training put before such a text, where the model would write it.
    first = Tokenizer.from_file(str(STORIES / "tokenizer.json")).id_to_token(found.ids[0])
    assert first.startswith("▁")


def test_json_by_a_schema_too(session: LlamaCppSession) -> None:
    schema = {"type": "object", "properties": {"root": {"enum": ["root ::= a", "b"]}},
              "required": ["root"], "additionalProperties": False}  # fmt: skip
    found = session.generate(
        BEGIN, max_new_tokens=40, grammar=json_grammar(schema), begins_text=True
    )
    assert found.text.startswith("{")
    assert json.loads(found.text)["root"] in ("root ::= a", "b")
