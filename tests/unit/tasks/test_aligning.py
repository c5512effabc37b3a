"""Which tokens of two tokenizers begin at the same character of the same answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import small_llama
import small_tokenizers
from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import DataError
from edgedistill.tasks.generation.aligning import AnswerReader, aligned
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.templates import TEMPLATES


def metaspace_tokenizer() -> Tokenizer:
    """Words with the blank before them, as sentencepiece writes them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    known = [*small_llama.TEXTS, "What is a thermometer for? To measure. <draft>To read.</draft>"]
    tokenizer.train_from_iterator(
        known * 3, trainers.BpeTrainer(vocab_size=400, show_progress=False)
    )
    return tokenizer


def trimming(tokenizer: Tokenizer) -> Tokenizer:
    """With the post-processor that moves the beginning of tokens behind their blank."""
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


TOKENIZERS = {
    "small": small_tokenizers.byte_tokenizer(),
    "trimming": trimming(small_llama.make_tokenizer()),
    "metaspace": metaspace_tokenizer(),
}


def reader(name: str, template: str = "plain") -> AnswerReader:
    framed = TEMPLATES.load(template)
    tokenizer = small_tokenizers.fitted(TOKENIZERS[name], framed)
    return AnswerReader(ConversationEncoder(tokenizer, framed, max_tokens=9999, learn_end=True))


READERS = {name: reader(name) for name in TOKENIZERS}


def talk(*answers: str) -> Conversation:
    turns = [t for a in answers for t in (Turn("user", "and?"), Turn("assistant", a))]
    return Conversation("row", tuple(turns))


def common_beginnings(text: str) -> int:
    """Characters of a text at which tokens of both byte-level tokenizers begin, and its end.

    Found another way: by the bytes of the pieces.
    """
    letters = {letter: i for i, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    assert len(letters) == 256
    found = []
    for name in ("small", "trimming"):
        pieces = READERS[name].encoder._plain.encode(text, add_special_tokens=False).tokens
        found.append(set(np.cumsum([0, *map(len, pieces)]).tolist()))
    whole = set(np.cumsum([0, *(len(letter.encode()) for letter in text)]).tolist())
    return len(found[0] & found[1] & whole)


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30))
def test_pairs_have_the_same_text_before_them(text: str) -> None:
    small, other = READERS["small"], READERS["trimming"]
    try:
        row = talk("It's 12.", text)
        ids, theirs = small.encoder.encode(row).ids, other.encoder.encode(row).ids
    except DataError:
        return
    pairs = aligned(small.starts(row), other.starts(row))
    assert pairs.shape == ids.shape
    places = np.flatnonzero(pairs >= 0)
    assert small.encoder.encode(row).learned[places].all()
    assert other.encoder.encode(row).learned[pairs[places]].all()
    for ours, its in zip(places, pairs[places], strict=True):
        assert small.encoder.tokenizer.decode(ids[:ours]) == other.encoder.tokenizer.decode(
            theirs[:its]
        )
    assert len(places) == common_beginnings("It's 12.") + common_beginnings(text)


@pytest.mark.parametrize("template", sorted(TEMPLATES))
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_of_one_tokenizer_every_learned_token_is_its_own_pair(name: str, template: str) -> None:
    own = reader(name, template)
    row = Conversation("row", small_tokenizers.HARD)
    learned = own.encoder.encode(row).learned
    found = aligned(own.starts(row), own.starts(row))
    # Only what stands behind the first token of the end is fixed by it, and not compared.
    behind = np.flatnonzero(learned & (found < 0))
    assert (found[found >= 0] == np.flatnonzero(found >= 0)).all()
    assert (found[~learned] == -1).all()
    assert len(behind) <= 1


def test_words_are_paired_across_ways_of_writing_blanks() -> None:
    row = talk("I want a refund today.")
    found = aligned(READERS["trimming"].starts(row), READERS["metaspace"].starts(row))
    ids, theirs = (READERS[name].encoder.encode(row).ids for name in ("trimming", "metaspace"))
    assert (found >= 0).sum() >= 6
    for ours, its in zip(np.flatnonzero(found >= 0), found[found >= 0], strict=True):
        said = (READERS["trimming"].encoder.tokenizer.decode(ids[:ours]),
                READERS["metaspace"].encoder.tokenizer.decode(theirs[:its]))  # fmt: skip
        assert said[0].split("and?")[-1].strip() == said[1].split("and?")[-1].strip()


def test_an_answer_that_one_template_changes_has_no_pairs() -> None:
    row, own = talk(" yes. "), READERS["small"]
    trims = small_tokenizers.jinja(small_tokenizers.LLAMA3_JINJA)
    tokenizer = small_tokenizers.fitted(TOKENIZERS["small"], trims)
    other = AnswerReader(ConversationEncoder(tokenizer, trims, max_tokens=99, learn_end=True))
    assert (aligned(own.starts(row), other.starts(row)) == -1).all()
    row = talk("yes.")
    assert (aligned(own.starts(row), other.starts(row)) >= 0).any()
