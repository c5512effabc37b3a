"""A smaller vocabulary: the same tokens for known texts, more for others, the same logits."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from edgedistill.core.errors import ModelError
from edgedistill.models.language.config import LanguageModelConfig
from edgedistill.models.language.llama import build
from edgedistill.models.language.pruning import prune_vocabulary, with_vocabulary
from edgedistill.models.language.tokenizer import train_tokenizer
from small_tokenizers import STORIES, needs_stories

SENTENCE = "where is my order I want to return the shoes that came today please help me now"
WORDS = SENTENCE.split()
TEXTS = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
TOKENIZER = train_tokenizer([*TEXTS, "zebra zebras " * 40, "größer größte " * 40], 420)
USED = ["where is my order", "please return the shoes"]
MARKED = [TOKENIZER.bos, TOKENIZER.end, TOKENIZER.pad]


def plain() -> Tokenizer:
    return Tokenizer.from_str(TOKENIZER._tokenizer.to_str())


def used_ids(tokenizer: Tokenizer) -> list[int]:
    return [i for text in USED for i in tokenizer.encode(text, add_special_tokens=False).ids]


def test_known_texts_keep_their_tokens_and_others_can_be_spelled() -> None:
    before = plain()
    pruned = prune_vocabulary(before, used_ids(before))
    after = pruned.tokenizer
    assert after.get_vocab_size() == len(pruned.kept) < before.get_vocab_size()
    for text in USED:
        assert after.encode(text).tokens == before.encode(text).tokens
        assert [pruned.kept[i] for i in after.encode(text).ids] == before.encode(text).ids
    assert before.encode(" zebra").tokens == ["Ġzebra"]
    assert len(after.encode(" zebra").tokens) > 1
    assert after.decode(after.encode("größer zebras 🙂").ids) == "größer zebras 🙂"
    for mark in ("<|bos|>", "<|end|>", "<|pad|>"):
        place = after.token_to_id(mark)
        assert place is not None
        assert pruned.kept[place] == before.token_to_id(mark)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_comes_back(text: str) -> None:
    before = plain()
    after = prune_vocabulary(before, used_ids(before)).tokenizer
    after.encode_special_tokens = True
    assert after.decode(after.encode(text).ids) == text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join))
def test_texts_that_were_counted_are_read_as_before(text: str) -> None:
    before = plain()
    ids = before.encode(text).ids
    pruned = prune_vocabulary(before, ids)
    assert [pruned.kept[i] for i in pruned.tokenizer.encode(text).ids] == ids


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_kept_tokens(tied: bool) -> None:
    shape = LanguageModelConfig(
        hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_positions=64,
        tied_embeddings=tied,
    )  # fmt: skip
    model = build(shape, TOKENIZER, seed=0).eval()
    pruned = prune_vocabulary(plain(), used_ids(plain()))
    smaller = with_vocabulary(model, pruned)
    text = "where is my order"
    old, new = plain().encode(text).ids, pruned.tokenizer.encode(text).ids
    with torch.inference_mode():
        expected = model(torch.tensor([old])).logits[..., list(pruned.kept)]
        found = smaller(torch.tensor([new])).logits
    torch.testing.assert_close(found, expected)
    assert smaller.config.vocab_size == len(pruned.kept)
    marks = [smaller.config.bos_token_id, smaller.config.eos_token_id, smaller.config.pad_token_id]
    assert [pruned.kept[i] for i in marks] == MARKED


@needs_stories
def test_a_sentencepiece_vocabulary_keeps_its_bytes() -> None:
    before = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    ids = before.encode("Lily had a red ball.", add_special_tokens=False).ids
    pruned = prune_vocabulary(before, ids)
    after = pruned.tokenizer
    assert 256 < len(pruned.kept) < 330
    again = after.encode("Lily had a red ball.", add_special_tokens=False).ids
    assert [pruned.kept[i] for i in again] == ids
    # Characters that were not in use are spelled in bytes.
    assert after.decode(after.encode("The quick fox: äß 🙂").ids).strip() == "The quick fox: äß 🙂"
    settings_of = json.loads(after.to_str())
    assert {t["content"]: t["id"] for t in settings_of["added_tokens"]}["</s>"] == 2


def test_what_cannot_be_cut_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    with pytest.raises(ModelError, match="WordLevel"):
        prune_vocabulary(words, [0])
    with pytest.raises(ModelError, match="id 9999"):
        prune_vocabulary(plain(), [9999])
