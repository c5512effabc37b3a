"""Spans on the token grid: aligned, decoded back, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from edgedistill.core.extraction import Document, Span
from edgedistill.runtime.extraction.reading import labelled, read_tags
from edgedistill.runtime.extraction.tagging import begin_tag
from edgedistill.runtime.tokenizer import Tokenizer
from edgedistill.tasks.classification import TextEncoder
from edgedistill.tasks.extraction.alignment import OffGridError, tags_of_spans
from edgedistill.tasks.extraction.encoding import DocumentEncoder, joined

FIELDS = ("item", "count")


@pytest.fixture(scope="module")
def encoder(teacher_folder: Path) -> DocumentEncoder:
    return DocumentEncoder(TextEncoder(teacher_folder / "tokenizer.json", 16), FIELDS)


@pytest.fixture(scope="module")
def byte_encoder(tmp_path_factory: pytest.TempPathFactory) -> DocumentEncoder:
    """Byte-level BPE without merges: a token a byte, so of "é" two tokens say one character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    path = tmp_path_factory.mktemp("bytes") / "tokenizer.json"
    tokenizer.save(str(path))
    return DocumentEncoder(TextEncoder(path, 64), FIELDS)


def test_tags_of_words_and_their_pieces(encoder: DocumentEncoder) -> None:
    text = "send 12 return card, please"
    spans = (Span(5, 7, "count"), Span(8, 19, "item"))
    encoded = encoder.encode([Document("a", text, spans)])
    # [CLS] send 1 ##2 return card , please [SEP]
    assert encoded.tags.tolist() == [-1, 0, 3, 4, 1, 2, 0, 0, -1]
    assert encoded.is_content.tolist() == [False, *[True] * 7, False]
    assert encoder.whole_words([Document("a", text, spans)])


def test_a_span_within_a_word_is_told(encoder: DocumentEncoder) -> None:
    within = Document("a", "send 12x", (Span(5, 7, "count"),))
    assert encoder.fault(within) is None
    assert not encoder.whole_words([within])
    assert not encoder.whole_words([Document("a", "x12 send", (Span(1, 3, "count"),))])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document("a", "my parcel", (Span(4, 9, "item"),)), "within the token 'parcel'"),
        (Document("a", "my parcel", (Span(3, 6, "item"),)), "within the token 'parcel'"),
        (Document("a", "a " * 20), "22 tokens, at most 16"),
        (Document("a", "a \u0300"), None),
        (Document("a", "\u0300"), "no token"),
        (Document("a", "a \u200b b", (Span(2, 3, "item"),)), "has no token"),
    ],
)
def test_what_cannot_be_tagged_is_told(
    encoder: DocumentEncoder, document: Document, message: str | None
) -> None:
    fault = encoder.fault(document)
    assert fault is None if message is None else message in (fault or "")


def test_unknown_characters_are_tokens_with_a_place(encoder: DocumentEncoder) -> None:
    text = "send \u4e2d\u6587 now \U0001f4e6!"
    spans = (Span(5, 7, "item"), Span(12, 13, "count"))
    grid = encoder.grid(text)
    tags = tags_of_spans(grid, spans, FIELDS, text)
    assert tags[grid.is_content].tolist() == [0, 1, 2, 0, 3, 0]


def test_texts_are_joined_in_their_order(encoder: DocumentEncoder) -> None:
    first = encoder.encode([Document("a", "my parcel", (Span(3, 9, "item"),))])
    second = encoder.encode_texts(["send it", "now"])
    both = joined(first, second)
    assert both.texts.starts.tolist() == [0, 4, 8, 11]
    assert both.tags.tolist() == [-1, 0, 1, -1, *[-1] * 7]
    assert both.texts.part(1, 2).ids.tolist() == second.texts.part(0, 1).ids.tolist()
    assert len(joined(second, encoder.encode_texts([]))) == 2


texts = st.text(st.sampled_from("ab 12.,é\u0301İ\u4e2d\U0001f4e6\t-'"), min_size=1, max_size=12)


@given(texts, st.data())
def test_spans_on_the_grid_come_back(
    encoder: DocumentEncoder, byte_encoder: DocumentEncoder, text: str, data: st.DataObject
) -> None:
    for one in (encoder, byte_encoder):
        grid = one.grid(text)
        assert grid.ids.tolist() == Tokenizer(one.encoder.packed).encode(text)
        spans, place = [], 0
        while place < len(text):
            end = data.draw(st.integers(place + 1, len(text)))
            if data.draw(st.booleans()) and text[place:end] == text[place:end].strip():
                spans.append(Span(place, end, data.draw(st.sampled_from(FIELDS))))
            place = end
        try:
            tags = tags_of_spans(grid, spans, FIELDS, text)
        except OffGridError:
            continue
        assert ((tags >= 0) == grid.is_content).all()
        if not grid.is_content.any():
            assert not spans
            continue
        sure = 9.0 * np.eye(1 + 2 * len(FIELDS))[tags[grid.is_content]]
        found = labelled(read_tags(grid, sure, whole_words=False).spans, FIELDS)
        # A span over characters without a token (a lone accent) is read back without them.
        expected = {
            (span.label, int(grid.starts[inside].min()), int(grid.ends[inside].max()))
            for span in spans
            if (inside := grid.is_content & (grid.starts < span.end)
                & (grid.ends > span.start)).any()
        }  # fmt: skip
        assert found == expected == {(s.label, s.start, s.end) for s in spans}


def test_two_spans_side_by_side_stay_two(encoder: DocumentEncoder) -> None:
    text = "card card"
    tags = tags_of_spans(encoder.grid(text), (Span(0, 4, "item"), Span(5, 9, "item")), FIELDS, text)
    assert tags.tolist() == [-1, begin_tag(0), begin_tag(0), -1]


def test_blanks_that_a_tokenizer_counts_in_are_taken_off(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(
        models.Unigram([("<unk>", 0.0), ("\u2581my", -1.0), ("\u2581card", -1.0)], unk_id=0)
    )
    tokenizer.normalizer = normalizers.Strip()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    one = DocumentEncoder(TextEncoder(tmp_path / "tokenizer.json", 16), FIELDS)
    text = "my card"
    tags = tags_of_spans(one.grid(text), (Span(3, 7, "item"),), FIELDS, text)
    assert tags.tolist() == [0, 1]
