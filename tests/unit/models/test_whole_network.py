"""Classifiers as networks of our blocks; what passes make of them is saved and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from edgedistill.core.errors import ModelError
from edgedistill.core.structural import AnyStructural
from edgedistill.models.structure.catalogue import STRUCTURAL_PASSES
from edgedistill.models.structure.shape import Shape, num_parameters
from edgedistill.models.structure.whole import whole_network
from edgedistill.models.students.compressed import CompressedConfig, rounds_of
from edgedistill.models.teachers.encoder import EncoderClassifier, fine_tuned_classifier
from small_network import MAX_TOKENS, NUM_LABELS, SIZES, Small, small

LABELS = ("b", "d", "a", "c")


@pytest.fixture(scope="module")
def bert() -> Small:
    return small()


def stock(family: str, folder: Path) -> Any:
    """A sequence classifier of transformers, its labels in another order than the task's."""
    torch.manual_seed(1)
    names = {"id2label": dict(enumerate(sorted(LABELS)))}
    model: Any = (
        BertForSequenceClassification(BertConfig(**SIZES, **names))
        if family == "bert"
        else RobertaForSequenceClassification(RobertaConfig(**SIZES, **names))
    )
    model.save_pretrained(folder)
    return fine_tuned_classifier(folder, LABELS).eval()


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("is_stock", [True, False])
def test_without_a_pass_it_is_the_classifier(
    family: str, is_stock: bool, bert: Small, tmp_path: Path
) -> None:
    teacher = stock(family, tmp_path) if is_stock else small(family).teacher
    network = whole_network(teacher, max_tokens=MAX_TOKENS).eval()
    with torch.no_grad():
        theirs, ours = teacher(*bert.batch()), network(*bert.batch())
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.features, theirs.features, rtol=0, atol=1e-5)
    assert theirs.logits.std() > 1e-3


@pytest.mark.parametrize("name", STRUCTURAL_PASSES)
def test_a_pass_leaves_its_argument_alone_and_is_read_again(
    name: str, bert: Small, tmp_path: Path
) -> None:
    network = whole_network(stock("bert", tmp_path), max_tokens=MAX_TOKENS)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    settings = TypeAdapter(AnyStructural).validate_python({"name": name})
    changed = STRUCTURAL_PASSES.load(name)(network, settings, bert.given).eval()
    assert all(torch.equal(t, before[key]) for key, t in network.state_dict().items())
    assert num_parameters(changed)[0] < num_parameters(network)[0]
    shared = {p.data_ptr() for p in network.parameters()}
    assert not shared & {p.data_ptr() for p in changed.parameters()}
    again = Shape.from_json(Shape.of(changed).as_json()).network().eval()
    again.load_state_dict(changed.state_dict())
    with torch.no_grad():
        first, second = (each(*bert.batch()).logits for each in (changed, again))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
    assert first.shape == (40, NUM_LABELS)


@pytest.mark.parametrize(("share", "rounds"), [(0.5, 2), (0.65, 3), (0.9, 5)])
def test_rounds_remove_equal_parts_of_what_was_there(share: float, rounds: int) -> None:
    config = CompressedConfig(
        passes=({"name": "drop_layers"}, {"name": "prune_heads", "share": share, "rounds": rounds},
                {"name": "factorise_linear"})
    )  # type: ignore[arg-type]  # fmt: skip
    found = rounds_of(config)
    assert len(found) == rounds
    assert [each.name for each in found[0]] == ["drop_layers", "prune_heads"]
    assert [each.name for each in found[-1]] == ["prune_heads", "factorise_linear"]
    left = [1.0]
    for passes in found:
        (part,) = [each for each in passes if each.name == "prune_heads"]
        left.append(left[-1] * (1 - part.share))
    assert left == pytest.approx([1 - share * done / rounds for done in range(rounds + 1)])


def test_encoders_of_other_forms_are_refused(bert: Small, tmp_path: Path) -> None:
    sizes = {key: SIZES[key] for key in ("vocab_size", "hidden_size", "num_attention_heads")}
    albert = AlbertModel(AlbertConfig(**sizes, intermediate_size=40, embedding_size=8))
    with pytest.raises(ModelError, match="share their weights"):
        whole_network(EncoderClassifier(albert, 3), max_tokens=8)
    with pytest.raises(ModelError, match="reads 40 tokens, the task up to 41"):
        whole_network(bert.teacher, max_tokens=41)
    headless = torch.nn.Module()
    headless.encoder = bert.teacher.encoder
    with pytest.raises(ModelError, match="no linear head"):
        whole_network(headless, max_tokens=8)
