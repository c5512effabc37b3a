"""What every runtime of language models must do with a schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small_llama
from edgedistill.runtime.generation.sessions import open_session

jsonschema = pytest.importorskip("jsonschema")

PROMPT = [small_llama.BOS, 60, 70, 80]


@pytest.fixture(params=[small_llama.write_small, small_llama.write_small_onnx], scope="module")
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("llguidance")
    write: Callable[[Path], Path] = request.param
    file = write(tmp_path_factory.mktemp("model"))
    return open_session(
        file, tokenizer=small_llama.make_tokenizer().to_str(), context=small_llama.CONTEXT
    )


def test_a_schema_is_followed_whatever_the_model_would_say(session: Any) -> None:
    keys = set()
    for seed in range(12):
        told = session.generate(
            PROMPT, max_new_tokens=120, json_schema=small_llama.SCHEMA, temperature=1.5, seed=seed
        )
        assert told.finish == "stop"
        answer = json.loads(told.text)
        jsonschema.validate(answer, small_llama.SCHEMA)
        keys |= answer.keys()
    assert keys == set(small_llama.SCHEMA["properties"])
