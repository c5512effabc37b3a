"""Parts that do not belong together, and characters that come in pieces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

import small_llama
from edgedistill.core.errors import BundleError, ModelError
from edgedistill.export.gguf import write_gguf
from edgedistill.runtime.generation.boundary import TextBoundary
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession
from edgedistill.runtime.generation.settings import Frame, GenerationSettings
from edgedistill.runtime.manifest import LANGUAGE_MODEL, TOKENIZER, InputLimits, Manifest
from edgedistill.runtime.tokenizer import pack_tokenizer

pytest.importorskip("xllamacpp")

PROMPT = [0, 60, 70, 80]
SAID = "größer 你好 🙂 ok"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama.write_small(tmp_path_factory.mktemp("gguf"))


def _longer_tokenizer() -> Tokenizer:
    tokenizer = small_llama.make_tokenizer()
    tokenizer.add_tokens(["brandnewtoken"])
    return tokenizer


def _bundle_files(file: Path, tokenizer: Tokenizer) -> tuple[Manifest, dict[str, bytes]]:
    settings = GenerationSettings(
        frames={"user": Frame((), ())}, start=(small_llama.BOS,), answer=(),
        end=(small_llama.EOS,), context=small_llama.CONTEXT, max_new_tokens=24,
    )  # fmt: skip
    manifest = Manifest(
        kind="generation", name="small", task={}, labels=(), input=InputLimits(1, 200, 64, ()),
        batching="single", threads=1, pad_id=small_llama.PAD, golden_tolerance=0.0,
        requirements=(), measurements={}, provenance={}, generation=settings.as_json(),
    )  # fmt: skip
    boundary = TextBoundary("doubt", 1e9, 0.1)
    files = {
        LANGUAGE_MODEL: file.read_bytes(),
        TOKENIZER: pack_tokenizer(tokenizer.to_str()),
        **boundary.to_files(),
    }
    return manifest, files


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(file: Path) -> None:
    manifest, files = _bundle_files(file, _longer_tokenizer())
    with pytest.raises(BundleError, match="the tokenizer has 401 tokens, the model 400"):
        Generator.from_files(manifest, files)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reach 400, the model has 400 embeddings"):
        write_gguf(small_llama.make_model(), _longer_tokenizer(), to=tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_text_that_does_not_end_is_an_abstention_with_its_reason(file: Path) -> None:
    generator = Generator.from_files(*_bundle_files(file, small_llama.make_tokenizer()))
    found = generator.predict(["the parcel is late", "größer", "can you help?"])
    assert {answer.reason for answer in found} <= {"unfinished", "repeats"}
    for answer in found:
        assert answer.abstained
        assert answer.text is None
        assert answer.num_new_tokens == 24


def _told(file: Path, limit: int) -> tuple[str, list[str]]:
    """What is written of `SAID` within so many tokens, whole and as it came."""
    pieces: list[str] = []
    with LlamaCppSession(file, context=small_llama.CONTEXT) as session:
        found = session.generate(
            PROMPT, max_new_tokens=limit, grammar=f'root ::= "{SAID}"', on_text=pieces.append
        )
    return found.text, pieces


def test_characters_of_several_tokens_are_told_whole(file: Path) -> None:
    text, pieces = _told(file, 60)
    assert text == "".join(pieces) == SAID
    # The model writes bytes: more tokens than characters, and no piece is a part of one.
    for piece in pieces:
        assert "\ufffd" not in piece
        assert piece.encode().decode() == piece


@pytest.mark.parametrize("limit", range(1, 14))
def test_a_limit_amid_a_character_leaves_no_half_of_it(file: Path, limit: int) -> None:
    text, pieces = _told(file, limit)
    assert text == "".join(pieces)
    assert SAID.startswith(text)


def test_ids_and_scores_of_split_characters(file: Path) -> None:
    ids: list[Any] = small_llama.make_tokenizer().encode(SAID).ids
    assert len(ids) > len(SAID) / 2
    with LlamaCppSession(file, context=small_llama.CONTEXT) as session:
        found = session.likeliest([0, *ids], 5)
        scores = session.score([0, *ids])
    assert [one[i] for one, i in zip(found, ids, strict=True)] == pytest.approx(scores.tolist())
    assert all(len(one) >= 5 for one in found)


def test_a_session_that_was_never_asked_is_closed(file: Path) -> None:
    # In a process of its own: a server that waits for itself could not be ended from here.
    code = (
        "from pathlib import Path\n"
        "from edgedistill.runtime.generation.llama_cpp import LlamaCppSession\n"
        f"for _ in range(30): LlamaCppSession(Path({str(file)!r}), context=64).close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
