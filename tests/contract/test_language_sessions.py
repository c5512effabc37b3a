"""What every runtime of language models must do: follow schemas, refuse what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small_llama
from edgedistill.core.errors import DataError, SpecError
from edgedistill.runtime.generation.completion import LanguageSession, PromptTooLong
from edgedistill.runtime.generation.sessions import open_session

jsonschema = pytest.importorskip("jsonschema")

PROMPT = [small_llama.BOS, 60, 70, 80]


@pytest.fixture(params=[small_llama.write_small, small_llama.write_small_onnx], scope="module")
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("llguidance")
    write: Callable[[Path], Path] = request.param
    return write(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def session(file: Path) -> LanguageSession:
    return opened(file, small_llama.CONTEXT)


def opened(file: Path, context: int, threads: int = 1) -> LanguageSession:
    tokenizer = small_llama.make_tokenizer().to_str()
    return open_session(file, tokenizer=tokenizer, context=context, threads=threads)


def test_a_schema_is_followed_whatever_the_model_would_say(session: LanguageSession) -> None:
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


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0}, {"stop": [""]}, {"temperature": -1.0},
        {"temperature": float("nan")}, {"seed": -1}, {"seed": 2**32 - 1}, {"top_p": 0.0},
        {"top_p": 1.1}, {"top_p": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_refused(
    settings: dict[str, Any], session: LanguageSession
) -> None:
    with pytest.raises(SpecError):
        session.generate(PROMPT, **{"max_new_tokens": 5} | settings)


def test_prompts_that_do_not_fit_are_refused(session: LanguageSession) -> None:
    full = [0] * (small_llama.CONTEXT - 4)
    assert session.generate(full, max_new_tokens=4).num_new == 4
    with pytest.raises(PromptTooLong, match="exceed the context"):
        session.generate(full, max_new_tokens=5)
    with pytest.raises(PromptTooLong):
        session.score([0] * (small_llama.CONTEXT + 1))
    for ids in ([], [-1], [400], [5, 10**12]):
        with pytest.raises(DataError):
            session.generate(ids, max_new_tokens=1)


def test_a_closed_session_says_so(file: Path) -> None:
    with opened(file, 16, threads=2) as session:
        assert session.generate(PROMPT, max_new_tokens=2).num_new == 2
    with pytest.raises(RuntimeError, match="closed"):
        session.generate(PROMPT, max_new_tokens=2)
