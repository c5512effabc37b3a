"""Tokens to text: whole characters, stop strings wherever tokens are cut, both vocabularies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

import small_llama
from edgedistill.core.errors import BundleError
from edgedistill.runtime.generation.token_text import TextStream, token_bytes

BYTES = [bytes([value]) for value in range(256)]


def sentencepiece() -> Tokenizer:
    """A BPE with byte fallback, spaces as "▁"."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    pieces += ["▁", "a", "b", "é", "ab", "▁ab"]
    tokenizer: Any = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)}, [("a", "b"), ("▁", "ab")],
            byte_fallback=True, unk_token="<unk>",
        )
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(pieces[:3])
    return tokenizer


TOKENIZERS = {"byte-level": small_llama.make_tokenizer(), "sentencepiece": sentencepiece()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=st.text() | st.text(alphabet="aé✓🙂 \n▂"))
def test_every_text_comes_back_from_its_tokens(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    text = text.replace("▁", "").replace("<", "")  # marks of the vocabularies themselves
    spelled = token_bytes(tokenizer.to_str(), 500)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert b"".join(spelled[i] for i in ids).decode() == text
    pieces: list[str] = []
    stream = TextStream(spelled, on_text=pieces.append)
    assert not any(stream.take(i) for i in ids)
    stream.end(by_limit=False)
    assert stream.text == "".join(pieces) == text


def test_special_tokens_and_rows_beyond_the_vocabulary_spell_nothing() -> None:
    spelled = token_bytes(TOKENIZERS["byte-level"].to_str(), 500)
    assert len(spelled) == 500
    assert spelled[:3] == [b"", b"", b""]
    assert set(spelled[400:]) == {b""}
    assert token_bytes(TOKENIZERS["sentencepiece"].to_str(), 500)[3 + 0xE2] == b"\xe2"


def test_vocabularies_that_cannot_be_told_are_refused() -> None:
    wordpiece: Any = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    with pytest.raises(BundleError, match="bytes"):
        token_bytes(wordpiece.to_str(), 10)
    with pytest.raises(BundleError, match="reach 399"):
        token_bytes(TOKENIZERS["byte-level"].to_str(), 399)


@given(
    text=st.text(alphabet="abab é🙂", max_size=30),
    stop=st.lists(st.text(alphabet="ab é🙂", min_size=1, max_size=4), max_size=3),
    limit=st.booleans(),
)
def test_a_text_ends_where_the_first_stop_string_is_complete(
    text: str, stop: list[str], limit: bool
) -> None:
    """Byte by byte; nothing of a stop string is told, and nothing twice."""
    pieces: list[str] = []
    stream = TextStream(BYTES, stop, pieces.append)
    is_over = False
    for byte in text.encode():
        if stream.take(byte):
            is_over = True
            break
    stream.end(by_limit=limit)
    complete = [at + len(s) for s in stop if (at := text.find(s)) >= 0]
    assert is_over == bool(complete)
    expected = text
    if complete:
        seen = text[: min(complete)]
        expected = seen[: min(seen.find(s) for s in stop if s in seen)]
    assert stream.text == "".join(pieces) == expected


def test_half_a_character_is_told_by_nobody() -> None:
    pieces: list[str] = []
    for by_limit, expected in ((True, "a"), (False, "a\ufffd")):
        stream = TextStream(BYTES, ["stop"], pieces.append)
        for byte in "a🙂".encode()[:-1]:
            stream.take(byte)
            assert stream.text == "a"
        stream.end(by_limit=by_limit)
        assert stream.text == expected
    stream = TextStream([b"", b"a", b"stop\xf0\x9f"], ["stop"])
    assert [stream.take(token) for token in (0, 1, 2)] == [False, False, True]
    stream.end(by_limit=False)
    assert stream.text == "a"
