"""Texts to token ids as training sees them, and logits to answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from edgedistill.core.errors import ModelError
from edgedistill.runtime.tokenizer import Tokenizer as RuntimeTokenizer
from edgedistill.tasks.classification import TextEncoder, predicted

CLS, SEP = 2, 3


@pytest.fixture
def tokenizer_file(teacher_folder: Path) -> Path:
    return teacher_folder / "tokenizer.json"


def test_ids_are_those_of_the_tokenizer_with_its_marks(tokenizer_file: Path) -> None:
    raw = Tokenizer.from_file(str(tokenizer_file))
    encoder = TextEncoder(tokenizer_file, 64)
    texts = ["where is my order", "", "Refund NOW!", "\u00e9 zq"]
    encoded = encoder.encode(texts)
    for row, text in enumerate(texts):
        expected = raw.encode(text).ids
        start, end = encoded.starts[row : row + 2]
        assert encoded.ids[start:end].tolist() == expected == encoder.ids(text)
        assert (expected[0], expected[-1]) == (CLS, SEP)
    assert encoder.count(texts) == encoded.lengths.tolist()
    assert encoder.num_tokens == raw.get_vocab_size()
    assert encoder.special_ids == (0, 1, 2, 3)
    assert encoder.pad_id == 0


def test_longer_texts_are_cut_with_the_closing_mark_kept(tokenizer_file: Path) -> None:
    encoder = TextEncoder(tokenizer_file, 6)
    text = "where is my order parcel late"
    whole = encoder.ids(text)
    assert len(whole) == 8
    encoded = encoder.encode([text, "late"])
    assert encoded.ids[:6].tolist() == [*whole[:5], SEP]
    assert encoded.lengths.tolist() == [6, 3]
    assert encoder.count([text]) == [8]


def test_truncation_and_padding_of_its_training_are_taken_off(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    raw = Tokenizer.from_file(str(tokenizer_file))
    raw.enable_truncation(4)
    raw.enable_padding(length=10, pad_id=1)
    raw.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder(tmp_path / "tokenizer.json", 64)
    assert len(encoder.ids("where is my order parcel late")) == 8
    assert encoder.pad_id == 1
    shipped = json.loads(gzip.decompress(encoder.packed))
    assert shipped["truncation"] is shipped["padding"] is None


def test_what_ships_encodes_as_what_was_trained_on(tokenizer_file: Path) -> None:
    encoder = TextEncoder(tokenizer_file, 64)
    shipped = RuntimeTokenizer(encoder.packed)
    for text in ("where is my order", "", "?!", "a" * 500):
        assert shipped.encode(text) == encoder.ids(text)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"model": 1}', b"\xff"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError, match="tokenizer cannot be read") as caught:
        TextEncoder(tmp_path / "tokenizer.json", 64)
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


def test_a_tie_goes_to_the_lower_label() -> None:
    logits = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 5.0]])
    assert predicted(logits).tolist() == [1, 0, 2]
    assert predicted(np.empty((0, 3))).shape == (0,)
