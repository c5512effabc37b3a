"""Teachers and students with a head on every token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import ModelError
from edgedistill.core.protocols import Signal
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.inference import token_outputs
from edgedistill.models.students import small_transformer, truncated
from edgedistill.models.students.bert_blocks import TransformerTagger
from edgedistill.models.students.small_transformer import SmallTransformerConfig
from edgedistill.models.students.truncated import TruncatedConfig
from edgedistill.models.students.vocabulary import KeptVocabulary
from edgedistill.models.teachers.encoder import (
    EncoderTagger,
    load_classifier,
    new_classifier,
    save_classifier,
)
from edgedistill.runtime.session import Session

TAGS = ("O", "B-a", "I-a")
TEXTS = Encoded.from_lists([[2, 40, 41, 42, 3], [2, 50, 3], [2, 60, 61, 62, 63, 64, 65, 3]])


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> EncoderTagger:
    torch.manual_seed(0)
    model = new_classifier(teacher_folder, len(TAGS), EncoderTagger).eval()
    assert isinstance(model, EncoderTagger)
    return model


@pytest.fixture(scope="module")
def kept(teacher: EncoderTagger) -> KeptVocabulary:
    """All tokens."""
    num = int(teacher.encoder.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    return KeptVocabulary(torch.arange(num), torch.arange(num, dtype=torch.int16))


def test_a_saved_tagger_is_read_back(teacher: EncoderTagger, tmp_path: Path) -> None:
    save_classifier(teacher, tmp_path, TAGS)
    again = load_classifier(tmp_path, TAGS, EncoderTagger)
    expected, _ = token_outputs(teacher, TEXTS, pad_id=0)
    assert np.array_equal(token_outputs(again, TEXTS, pad_id=0)[0], expected)
    with pytest.raises(ModelError, match="other labels"):
        load_classifier(tmp_path, ("O", "B-b", "I-b"), EncoderTagger)


def test_with_everything_kept_the_student_is_the_teacher(
    teacher: EncoderTagger, kept: KeptVocabulary
) -> None:
    student = truncated.build(teacher, kept, TruncatedConfig(layers=(0, 1)), max_tokens=16)
    ours, theirs = (
        token_outputs(model, TEXTS, pad_id=0) for model in (TransformerTagger.of(student), teacher)
    )
    assert ours[0].shape == (16, len(TAGS))
    assert np.allclose(ours[0], theirs[0], atol=1e-5)
    assert np.allclose(ours[1], theirs[1], atol=1e-5)


@pytest.mark.parametrize("family", ["truncated", "small_transformer"])
def test_padding_and_the_export_change_no_answer(
    family: str, teacher: EncoderTagger, kept: KeptVocabulary, tmp_path: Path
) -> None:
    if family == "truncated":
        student = truncated.build(teacher, kept, TruncatedConfig(layers=(1,)), max_tokens=16)
    else:
        config = SmallTransformerConfig(
            hidden_size=16, layers=(0, 1), intermediate_size=32, embedding_rank=8
        )
        student = small_transformer.build(teacher, kept, config, max_tokens=16)
    model = TransformerTagger.of(student).eval()
    together, _ = token_outputs(model, TEXTS, pad_id=0)
    apart, _ = token_outputs(model, TEXTS, pad_id=0, batch_size=1)
    assert np.allclose(together, apart, atol=1e-5)
    session = Session(OnnxExporter().write(model, to=tmp_path / "m.onnx").read_bytes())
    for row in range(len(TEXTS)):
        ids, mask = TEXTS.padded(np.array([row]), 0)
        logits, features = session.run(ids, mask)
        assert logits.shape == (1, ids.shape[1], len(TAGS))
        assert features.shape == (1, 32 if family == "truncated" else 16)
        start, stop = TEXTS.starts[row : row + 2]
        assert np.allclose(logits[0], apart[start:stop], atol=1e-4)


def test_a_tagger_tells_its_inside_as_a_classifier_does(
    teacher: EncoderTagger, kept: KeptVocabulary
) -> None:
    student = truncated.build(teacher, kept, TruncatedConfig(layers=(0, 1)), max_tokens=16)
    tagger = TransformerTagger.of(student).eval()
    ids, mask = (torch.from_numpy(a) for a in TEXTS.padded(np.arange(3), 0))
    output, inside = tagger.read(ids, mask)
    assert torch.equal(output.logits, tagger(ids, mask).logits)
    states = inside[Signal.STATES][-1]
    assert torch.allclose(tagger.head(states), output.logits)
