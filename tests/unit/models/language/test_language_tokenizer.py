"""The tokenizer gives every text back, and no text can pass for a mark."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from edgedistill.core.errors import ModelError
from edgedistill.models.language.tokenizer import SPECIAL, LanguageTokenizer, train_tokenizer

TEXTS = [f"Where is order {i}? It's late, don't cancel it — thanks, Zoë 🙂" for i in range(50)]
TOKENIZER = train_tokenizer(TEXTS, 300)


def marks(tokenizer: LanguageTokenizer) -> list[int]:
    ids = [tokenizer._tokenizer.token_to_id(mark) for mark in SPECIAL]
    assert [ids[0], *ids[3:]] == [tokenizer.bos, tokenizer.end, tokenizer.pad]
    return ids


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back_and_holds_no_mark(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert not set(ids) & set(marks(TOKENIZER))
    assert all(0 <= i < len(TOKENIZER) for i in ids)
    assert TOKENIZER.encode_many([text, "a"]) == [ids, TOKENIZER.encode("a")]


BARE = train_tokenizer(TEXTS, 300, bare_words=True)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@example(SPECIAL[1])
def test_bare_words_have_one_spelling(text: str) -> None:
    assert BARE.decode(BARE.encode(text)) == text
    (blank,) = BARE.encode(" ")
    assert BARE.encode(f"a order b {text}")[1:4] == [blank, *BARE.encode("order"), blank]
    # What was learned with blanks apart reads the same whether they are cut off or not.
    parted: Tokenizer = Tokenizer.from_str(BARE._tokenizer.to_str())
    parted.encode_special_tokens = True  # a text that spells a mark is no mark
    parted.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert parted.encode(text, add_special_tokens=False).ids == BARE.encode(text)


def test_words_are_otherwise_spelled_with_their_blank() -> None:
    assert len(BARE.encode("order")) == 1
    assert TOKENIZER.encode(" order")[0] != TOKENIZER.encode(" ")[0]


@pytest.mark.parametrize("mark", SPECIAL)
def test_a_mark_in_a_text_is_text(mark: str, tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    for tokenizer in (TOKENIZER, LanguageTokenizer.load(tmp_path / "tokenizer.json")):
        ids = tokenizer.encode(f"stop {mark} now")
        assert not set(ids) & set(marks(tokenizer))
        assert tokenizer.decode(ids) == f"stop {mark} now"


def test_marks_are_one_id_each_and_no_text() -> None:
    assert sorted(marks(TOKENIZER)) == list(range(len(SPECIAL)))
    assert TOKENIZER.decode([TOKENIZER.bos, *TOKENIZER.encode("hi"), TOKENIZER.end]) == "hi"


def test_same_texts_same_file_and_merges_are_learned(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_tokenizer(iter(TEXTS), 300).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert len(TOKENIZER) == 300
    assert len(TOKENIZER.encode(" order")) < 6
    assert len(train_tokenizer([], 400)) == 261


def test_words_are_cut_as_gpt_2_does() -> None:
    pieces = TOKENIZER._tokenizer.pre_tokenizer.pre_tokenize_str("I'll pay 25€  now")
    assert [piece for piece, _ in pieces] == ["I", "'ll", "Ġpay", "Ġ25", "âĤ¬", "Ġ", "Ġnow"]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no room"):
        train_tokenizer(TEXTS, 260)
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelError, match="cannot be loaded"):
        LanguageTokenizer.load(path)
    path.write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        LanguageTokenizer.load(path)
    TOKENIZER.save(path)
    path.write_text(path.read_text().replace("<|user|>", "<|person|>"))
    with pytest.raises(ModelError, match="lacks the special tokens <|user|>".replace("|", r"\|")):
        LanguageTokenizer.load(path)
