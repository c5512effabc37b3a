"""Generation in llama.cpp: settings, limits, streams, and files that must not end the process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import small_llama
from edgedistill.core.errors import BundleError, MissingExtra, SpecError
from edgedistill.runtime.generation.gguf_header import read_header
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession

pytest.importorskip("xllamacpp")

PROMPT = [0, 60, 70, 80]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama.write_small(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def session(file: Path) -> LlamaCppSession:
    return LlamaCppSession(file, context=small_llama.CONTEXT)


def test_the_same_request_gets_the_same_answer(session: LlamaCppSession) -> None:
    first = session.generate(PROMPT, max_new_tokens=60)
    session.generate([0, 99], max_new_tokens=5)
    again = session.generate(PROMPT, max_new_tokens=60)
    assert (again.text, again.ids, again.num_new) == (first.text, first.ids, first.num_new)
    assert first.num_prompt == len(PROMPT)
    assert (first.num_new, first.finish) == (60, "length")
    assert first.prompt_ms > 0
    assert first.new_ms > 0


def test_a_seed_draws_and_repeats(session: LlamaCppSession) -> None:
    def drawn(seed: int) -> str:
        return session.generate(PROMPT, max_new_tokens=40, temperature=1.5, seed=seed).text

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(5)}) == 5
    greedy = session.generate(PROMPT, max_new_tokens=40).text
    told = session.generate(PROMPT, max_new_tokens=40, temperature=1.5, seed=1, top_p=1e-6)
    assert told.text == greedy


def test_pieces_make_up_the_text(session: LlamaCppSession) -> None:
    pieces: list[str] = []
    told = session.generate(PROMPT, max_new_tokens=50, on_text=pieces.append)
    assert "".join(pieces) == told.text
    assert len(pieces) > 5


def test_what_the_listener_raises_ends_the_answer(session: LlamaCppSession) -> None:
    heard: list[str] = []

    def listener(text: str) -> None:
        heard.append(text)
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        session.generate(PROMPT, max_new_tokens=100, on_text=listener)
    assert len(heard) == 1
    assert session.generate(PROMPT, max_new_tokens=3).num_new == 3


def test_a_stop_string_ends_the_answer_and_is_not_told(session: LlamaCppSession) -> None:
    whole = session.generate(PROMPT, max_new_tokens=60).text
    word = next(piece for piece in whole[15:].split("\ufffd") if len(piece) > 3)[:4]
    told = session.generate(PROMPT, max_new_tokens=60, stop=[word, "never said"])
    assert told.finish == "stop"
    assert told.text == whole[: whole.index(word)]
    assert told.num_new < 60


def test_ids_are_given_where_asked(session: LlamaCppSession) -> None:
    grammar = 'root ::= "return the parcel"'
    told = session.generate(PROMPT, max_new_tokens=40, grammar=grammar)
    assert told.ids is not None
    assert len(told.ids) == told.num_new
    assert small_llama.make_tokenizer().decode(list(told.ids)) == "return the parcel" == told.text
    assert told.ids[-1] == small_llama.EOS
    assert told.finish == "stop"
    quiet = session.generate(PROMPT, max_new_tokens=40, grammar=grammar, with_ids=False)
    assert (quiet.text, quiet.ids) == (told.text, None)


@pytest.mark.parametrize("grammar", ["root ::= [", "root ::= nowhere", 'root ::= root "a"', " "])
def test_a_grammar_that_cannot_be_read_is_refused(grammar: str, session: LlamaCppSession) -> None:
    with pytest.raises(SpecError, match="grammar"):
        session.generate(PROMPT, max_new_tokens=5, grammar=grammar)
    assert session.generate(PROMPT, max_new_tokens=3).num_new == 3


def test_grammars_that_fail_open_are_refused(session: LlamaCppSession) -> None:
    with pytest.raises(SpecError, match="fails open"):
        session.generate(PROMPT, max_new_tokens=5, grammar='%llguidance {}\nstart: "a"')
    with pytest.raises(SpecError, match="and a JSON schema"):
        session.generate(PROMPT, max_new_tokens=5, grammar='root ::= "a"', json_schema={})
    with pytest.raises(SpecError, match="nothing meets"):
        session.generate(PROMPT, max_new_tokens=5, json_schema={"enum": []})


def test_beams_are_refused(session: LlamaCppSession) -> None:
    with pytest.raises(SpecError):
        session.generate(PROMPT, max_new_tokens=5, beams=2)


def test_contexts_and_threads_out_of_range_are_refused(file: Path) -> None:
    for settings in ({"context": 0}, {"context": 129}, {"context": 64, "threads": 0}):
        with pytest.raises(SpecError):
            LlamaCppSession(file, **settings)


def test_nothing_can_connect(session: LlamaCppSession) -> None:
    address = session._server.listening_address
    assert address.startswith("unix://")
    place = Path(address.removeprefix("unix://"))
    assert not place.exists()
    assert not place.parent.exists()
    with socket.socket(socket.AF_UNIX) as caller, pytest.raises(FileNotFoundError):
        caller.connect(str(place))


def test_nothing_is_printed_and_torch_is_not_needed(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from edgedistill.runtime.generation.llama_cpp import LlamaCppSession\n"
        f"s = LlamaCppSession(Path({str(file)!r}), context=32)\n"
        "s.generate([0, 5], max_new_tokens=8)\n"
        "assert not {'torch', 'transformers', 'gguf', 'pydantic'} & set(sys.modules)\n"
    )
    source = str(Path(sys.modules["edgedistill"].__file__ or "").parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_file_cut_anywhere_is_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    lengths = {0, 1, 4, 8, 23, 24, 100, 5000, len(whole) // 2, len(whole) - 64}
    for length in lengths:
        cut = tmp_path / "cut.gguf"
        cut.write_bytes(whole[:length])
        with pytest.raises(BundleError, match="not a whole GGUF file"):
            LlamaCppSession(cut, context=16)
    for place in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(BundleError):
            LlamaCppSession(place, context=16)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b"GGUF", b"GGML", "begin with GGUF"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00gemma",
         "'gemma'"),
        (b"llama.block_count\x04\x00\x00\x00\x02", b"llama.block_count\x04\x00\x00\x00\x03",
         "blk.2"),
        (b"head_count_kv\x04\x00\x00\x00\x02", b"head_count_kv\x04\x00\x00\x00\x03", "multiple"),
        (b"bos_token_id\x04\x00\x00\x00\x00\x00", b"bos_token_id\x04\x00\x00\x00\x00\xff",
         "bos_token_id"),
        (b"blk.0.attn_q.weight", b"blk.0.attn_z.weight", "attn_q"),
        (b"token_embd.weight", b"token_embx.weight", "embeddings"),
    ],
    ids=str,
)  # fmt: skip
def test_contradictions_are_found_before_native_code_sees_them(
    old: bytes, new: bytes, named: str, file: Path, tmp_path: Path
) -> None:
    whole = file.read_bytes()
    assert old in whole
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(whole.replace(old, new, 1))
    with pytest.raises(BundleError, match=named):
        read_header(wrong)


def test_weights_that_are_not_numbers_are_refused(file: Path, tmp_path: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[-64:-60] = b"\x00\x00\xc0\x7f"
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(whole)
    with pytest.raises(BundleError, match="cannot load"):
        LlamaCppSession(wrong, context=16)


def test_the_missing_package_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtra) as caught:
        LlamaCppSession(file, context=16)
    assert "edgedistill[llm]" in str(caught.value)
