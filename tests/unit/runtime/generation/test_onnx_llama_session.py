"""Generation in ONNX Runtime: settings, limits, streams, grammars, files that do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import small_llama
from edgedistill.core.errors import BundleError, MissingExtra, SpecError
from edgedistill.runtime.generation.onnx_llama import OnnxLlamaSession

pytest.importorskip("llguidance")

PROMPT = [0, 60, 70, 80]
TOKENIZER = small_llama.make_tokenizer().to_str()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama.write_small_onnx(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def session(file: Path) -> OnnxLlamaSession:
    return OnnxLlamaSession(file.read_bytes(), tokenizer=TOKENIZER, context=small_llama.CONTEXT)


def opened(content: bytes, **changes: Any) -> OnnxLlamaSession:
    return OnnxLlamaSession(content, **{"tokenizer": TOKENIZER, "context": 64} | changes)


def test_the_same_request_gets_the_same_answer(session: OnnxLlamaSession) -> None:
    first = session.generate(PROMPT, max_new_tokens=60)
    with ThreadPoolExecutor(3) as pool:
        others = list(pool.map(lambda _: session.generate(PROMPT, max_new_tokens=60), range(6)))
    assert {(o.text, o.ids, o.num_new, o.doubt) for o in others} == {
        (first.text, first.ids, first.num_new, first.doubt)
    }
    assert (first.num_prompt, first.num_new, first.finish) == (len(PROMPT), 60, "length")
    assert first.prompt_ms > 0
    assert first.new_ms > 0
    assert first.ids is not None
    scores = session.score([*PROMPT, *first.ids])[len(PROMPT) - 1 :]
    assert first.doubt == pytest.approx(-scores.mean(), abs=1e-4)


def test_a_seed_draws_and_repeats(session: OnnxLlamaSession) -> None:
    def drawn(seed: int, **options: Any) -> Any:
        return session.generate(
            PROMPT, max_new_tokens=40, temperature=1.5, seed=seed, **options
        ).ids

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(5)}) == 5
    greedy = session.generate(PROMPT, max_new_tokens=40).ids
    assert {drawn(seed, top_p=1e-9) for seed in range(3)} == {greedy}


def test_pieces_make_up_the_text_and_are_never_half_a_character(
    session: OnnxLlamaSession,
) -> None:
    for options in ({}, {"beams": 3}, {"stop": ["zzz"]}):
        pieces: list[str] = []
        told = session.generate(PROMPT, max_new_tokens=50, on_text=pieces.append, **options)
        assert "".join(pieces) == told.text
        assert len(pieces) > 5
        assert all(pieces)


def test_what_the_listener_raises_ends_the_answer(session: OnnxLlamaSession) -> None:
    heard: list[str] = []

    def listener(text: str) -> None:
        heard.append(text)
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        session.generate(PROMPT, max_new_tokens=100, on_text=listener)
    assert len(heard) == 1


@pytest.mark.parametrize("beams", [1, 3])
def test_a_stop_string_ends_the_answer_and_is_not_told(
    beams: int, session: OnnxLlamaSession
) -> None:
    whole = session.generate(PROMPT, max_new_tokens=60).text
    word = next(piece for piece in whole[15:].split("\ufffd") if len(piece) > 3)[:4]
    told = session.generate(PROMPT, max_new_tokens=60, stop=[word, "never said"])
    assert (told.text, told.finish) == (whole[: whole.index(word)], "stop")
    assert told.num_new < 60
    letters = ["e", "o", "a", "i"]
    searched = session.generate(PROMPT, max_new_tokens=60, stop=letters, beams=beams)
    assert searched.finish == "stop"
    assert not set(searched.text) & set(letters)


def test_beams_follow_a_schema_to_its_end(session: OnnxLlamaSession) -> None:
    best = session.generate(PROMPT, max_new_tokens=120, json_schema=small_llama.SCHEMA, beams=3)
    jsonschema.validate(json.loads(best.text), small_llama.SCHEMA)
    assert best.ids is not None
    assert best.ids[-1] == small_llama.EOS


SCALARS = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "integer"}]),
    st.integers(-5, 5).map(lambda low: {"type": "integer", "minimum": low, "maximum": low + 12}),
    st.sampled_from([{"type": "number"}, {"type": "number", "minimum": 0}]),
    st.integers(0, 3).map(lambda n: {"type": "string", "minLength": n, "maxLength": n + 3}),
    st.lists(st.text(max_size=4) | st.integers() | st.none(), min_size=1, max_size=4).map(
        lambda values: {"enum": values}
    ),
    st.just({"type": "string", "format": "date-time"}),
)


def compound(part: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(st.text(max_size=5), part, max_size=3).flatmap(
        lambda named: st.lists(st.sampled_from(sorted(named) or [""]), unique=True).map(
            lambda names: {
                "type": "object", "properties": named, "additionalProperties": False,
                "required": [name for name in names if name in named],
            }
        )
    )  # fmt: skip
    arrays = st.tuples(part, st.integers(0, 2)).map(
        lambda a: {"type": "array", "items": a[0], "minItems": a[1], "maxItems": a[1] + 1}
    )
    either = st.lists(part, min_size=1, max_size=2).map(lambda options: {"anyOf": options})
    return st.one_of(objects, arrays, either)


@given(schema=st.recursive(SCALARS, compound, max_leaves=5), seed=st.integers(0, 99))
@example({"type": "array", "items": {"type": "boolean"}, "maxItems": 1}, 0)
@example({"type": "string", "maxLength": 0}, 0)
@example({"enum": ["\x7f", "\x80\u2028\\"]}, 0)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_answer_that_ended_is_valid(
    session: OnnxLlamaSession, schema: dict[str, Any], seed: int
) -> None:
    for options in ({}, {"temperature": 2.0, "seed": seed}):
        told = session.generate(
            PROMPT, max_new_tokens=110, json_schema=schema, with_ids=False, **options
        )
        if told.finish == "stop":
            jsonschema.validate(json.loads(told.text), schema)
        assert "\ufffd" not in told.text


@pytest.mark.parametrize(
    "grammar", ["root ::= [", "root ::= nowhere", " ", 'a ::= "b"', "%llguidance {}"]
)
def test_a_grammar_that_cannot_be_read_is_refused(grammar: str, session: OnnxLlamaSession) -> None:
    with pytest.raises(SpecError, match="grammar"):
        session.generate(PROMPT, max_new_tokens=5, grammar=grammar)
    with pytest.raises(SpecError, match="grammar"):
        session.prepare(grammar)


def test_a_grammar_holds_and_two_are_too_many(session: OnnxLlamaSession) -> None:
    told = session.generate(PROMPT, max_new_tokens=40, grammar='root ::= "return the parcel"')
    assert (told.text, told.finish) == ("return the parcel", "stop")
    quiet = session.generate(
        PROMPT, max_new_tokens=40, grammar='root ::= "return the parcel"', with_ids=False
    )
    assert (quiet.text, quiet.ids) == (told.text, None)
    assert np.isnan(quiet.doubt)
    with pytest.raises(SpecError, match="and a JSON schema"):
        session.generate(PROMPT, max_new_tokens=5, grammar='root ::= "a"', json_schema={})
    with pytest.raises(SpecError, match="nothing meets"):
        session.generate(PROMPT, max_new_tokens=5, json_schema={"enum": []})


def test_without_end_tokens_there_is_no_grammar_but_text(tmp_path: Path) -> None:
    endless = small_llama.write_small_onnx(tmp_path, eos_token_id=None)
    session = opened(endless.read_bytes())
    assert session.generate(PROMPT, max_new_tokens=30).finish == "length"
    with pytest.raises(SpecError, match="no end token"):
        session.generate(PROMPT, max_new_tokens=5, grammar='root ::= "a"')


@pytest.mark.parametrize("changes", [{"beams": 0}, {"length_penalty": float("inf")}], ids=str)
def test_searches_out_of_range_are_refused(
    changes: dict[str, Any], session: OnnxLlamaSession
) -> None:
    with pytest.raises(SpecError):
        session.generate(PROMPT, **{"max_new_tokens": 5} | changes)


def test_contexts_and_threads_out_of_range_are_refused(file: Path) -> None:
    for changes in ({"context": 0}, {"context": 129}, {"threads": 0}):
        with pytest.raises(SpecError):
            opened(file.read_bytes(), **changes)


def test_files_that_are_no_language_model_are_refused(file: Path) -> None:
    whole = file.read_bytes()
    for content in (b"", whole[:1000], whole[: len(whole) // 2], b"GGUF" + whole):
        with pytest.raises(BundleError):
            opened(content)

    def changed(change: Any) -> bytes:
        model = onnx.load_model_from_string(whole)
        change(model)
        return model.SerializeToString()

    def property_of(model: Any, key: str, value: str) -> None:
        next(p for p in model.metadata_props if p.key == key).value = value

    def nan(model: Any) -> None:
        norm = next(i for i in model.graph.initializer if i.name == "norm.weight")
        norm.raw_data = b"\x00\x00\xc0\x7f" * (len(norm.raw_data) // 4)

    for change in (
        lambda model: property_of(model, "architecture", "gemma"),
        lambda model: property_of(model, "context", "long"),
        lambda model: property_of(model, "end_ids", "[400]"),
        lambda model: property_of(model, "end_ids", "1"),
        nan,
    ):
        with pytest.raises(BundleError):
            opened(changed(change))


def test_a_tokenizer_that_does_not_fit_is_refused(file: Path) -> None:
    larger = json.loads(TOKENIZER)
    larger["model"]["vocab"]["zzz"] = 400
    other = {"added_tokens": [], "model": {"type": "WordPiece", "vocab": {}}, "decoder": None}
    for content in (larger, other):
        with pytest.raises(BundleError, match="tokenizer"):
            opened(file.read_bytes(), tokenizer=json.dumps(content))


def test_neither_torch_nor_llama_cpp_is_needed(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "sys.modules.update(dict.fromkeys(('xllamacpp', 'torch', 'llguidance')))\n"
        "from edgedistill.runtime.generation.sessions import open_session\n"
        f"s = open_session(Path({str(file)!r}), tokenizer={TOKENIZER!r}, context=32)\n"
        "assert s.generate([0, 5], max_new_tokens=8, beams=2).num_new == 8\n"
        "assert not {'transformers', 'onnx', 'pydantic', 'gguf'} & set(sys.modules)\n"
    )
    source = str(Path(sys.modules["edgedistill"].__file__ or "").parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtra) as caught:
        opened(file.read_bytes()).generate(PROMPT, max_new_tokens=5, grammar='root ::= "a"')
    assert "edgedistill[llm]" in str(caught.value)
