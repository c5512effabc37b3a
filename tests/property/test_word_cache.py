"""Words remembered one by one give the tokens that the tokenizer finds in the whole text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Whole
from tokenizers import models, normalizers, pre_tokenizers, processors

from edgedistill.runtime import word_cache
from edgedistill.runtime.tokenizer import Tokenizer, pack_tokenizer

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<sep>"]
PIECES = ["book", "a", "##a", "##b", "b", "fl", "##ight", "##s", "24", "7", "'", "-", "!", "_", "i"]
WORDS = st.sampled_from(
    ["book", "Book", "flights", "a", "ab", "24", "24/7", "i'd", "zzz", "_a", "[SEP]", "<sep>", "[",
     "é", "\t", "\x00", "日本", "a" * 120]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(WORDS, max_size=8).map(" ".join),
    st.lists(WORDS, max_size=8).map("".join),
    st.text(st.characters(max_codepoint=130), max_size=40),
    st.text(max_size=20),
)


def _tokenizer(*, lowercase: bool, split: bool = True) -> Whole:
    vocabulary = {token: i for i, token in enumerate([*MARKS, *PIECES])}
    whole = Whole(models.WordPiece(vocabulary, unk_token="[UNK]"))
    whole.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    whole.pre_tokenizer = (
        pre_tokenizers.BertPreTokenizer() if split else pre_tokenizers.WhitespaceSplit()
    )
    whole.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    whole.add_special_tokens(MARKS)
    return whole


WHOLE = {lowercase: _tokenizer(lowercase=lowercase) for lowercase in (True, False)}
CACHED = {key: Tokenizer(pack_tokenizer(whole.to_str())) for key, whole in WHOLE.items()}


@pytest.mark.parametrize("lowercase", [True, False])
@given(texts=st.lists(TEXTS, max_size=3))
@settings(max_examples=300, deadline=None)
def test_ids_are_those_of_the_whole_text(lowercase: bool, texts: list[str]) -> None:
    for text in [*texts, *texts]:  # learned, then remembered
        whole = WHOLE[lowercase].encode(text)
        assert CACHED[lowercase].encode(text) == whole.ids
        assert CACHED[lowercase].locate(text) == (whole.ids, whole.offsets, whole.word_ids)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "MOST_WORDS", 2)
    whole = WHOLE[True]
    cache = word_cache.word_cache(
        json.loads(whole.to_str()),
        lambda text: whole.encode(text).ids,
        lambda text: whole.encode(text).offsets,
    )
    assert cache is not None
    for text in ("book", "a" * 40, "a", "flights", "ab", "book flights"):
        found = whole.encode(text)
        assert cache.encode(text) == found.ids
        assert cache.locate(text) == (found.ids, found.offsets, found.word_ids)
    assert len(cache._words) == 2 >= len(cache._pieces)


def test_a_tokenizer_that_splits_otherwise_has_no_cache() -> None:
    whole = _tokenizer(lowercase=True, split=False)
    assert word_cache.word_cache(json.loads(whole.to_str()), lambda _: [], lambda _: []) is None
    assert Tokenizer(pack_tokenizer(whole.to_str())).encode("a-b") == whole.encode("a-b").ids
