"""Classifiers as networks of our blocks; what passes make of them is saved and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

from edgedistill.core.errors import ModelError
from edgedistill.core.structural import AnyStructural, Importance
from edgedistill.models.structure.catalogue import STRUCTURAL_PASSES
from edgedistill.models.structure.shape import Shape, num_parameters
from edgedistill.models.structure.whole import whole_network
from edgedistill.models.students.compressed import CompressedConfig, rounds_of
from edgedistill.models.teachers.encoder import (
    EncoderClassifier,
    EncoderTagger,
    fine_tuned_classifier,
    fine_tuned_tagger,
)
from small_network import KINDS, MAX_TOKENS, SIZES, Small, in_a_row, small

LABELS = ("b", "d", "a", "c")
TAGS = ("O", "B-b", "I-b", "B-a", "I-a")
FAMILIES = ("bert", "roberta")
#: Every pass, and those that choose by an importance by each.
CHOOSING = ("prune_hidden", "prune_heads", "prune_neurons", "prune_encoder")
PASSES = [
    (name, importance)
    for name in STRUCTURAL_PASSES
    for importance in (get_args(Importance) if name in CHOOSING else ("",))
]


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


def stock_tagger(family: str, folder: Path) -> Any:
    """A token classifier of transformers, its tags in another order than the task's."""
    torch.manual_seed(2)
    names = {"id2label": dict(enumerate(sorted(TAGS)))}
    model: Any = (
        BertForTokenClassification(BertConfig(**SIZES, **names))
        if family == "bert"
        else RobertaForTokenClassification(RobertaConfig(**SIZES, **names))
    )
    torch.nn.init.normal_(model.classifier.bias)
    model.save_pretrained(folder)
    return fine_tuned_tagger(folder, TAGS, EncoderTagger)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_stock_tagger_answers_in_the_order_of_the_task(
    family: str, bert: Small, tmp_path: Path
) -> None:
    tagger = stock_tagger(family, tmp_path)
    form: Any = BertForTokenClassification if family == "bert" else RobertaForTokenClassification
    model = form.from_pretrained(tmp_path).eval()
    ids, mask = bert.batch()
    with torch.no_grad():
        ours, theirs = tagger(ids, mask), model(input_ids=ids, attention_mask=mask).logits
    order = [sorted(TAGS).index(tag) for tag in TAGS]
    real = mask.bool()
    torch.testing.assert_close(ours.logits[real], theirs[..., order][real], rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match="lacks B-z, I-z; it has B-b, I-b, which the task has"):
        fine_tuned_tagger(tmp_path, ("O", "B-a", "I-a", "B-z", "I-z"), EncoderTagger)
    with pytest.raises(ModelError, match=r"(?s)lacks kind=x.*only a model that was fine-tuned"):
        fine_tuned_tagger(tmp_path, (*TAGS, "kind=x"), EncoderTagger)
    with pytest.raises(ModelError, match="tags the tokens of a text"):
        fine_tuned_classifier(tmp_path, LABELS)
    stock(family, tmp_path)
    with pytest.raises(ModelError, match="labels whole texts"):
        fine_tuned_tagger(tmp_path, TAGS, EncoderTagger)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("kind", ["stock", "stock tagger", *KINDS])
def test_without_a_pass_it_is_the_classifier(
    family: str, kind: str, bert: Small, tmp_path: Path
) -> None:
    makers = {"stock": stock, "stock tagger": stock_tagger}
    teacher = makers[kind](family, tmp_path) if kind in makers else small(family, kind).teacher
    network = whole_network(teacher, max_tokens=MAX_TOKENS).eval()
    with torch.no_grad():
        theirs, ours = teacher(*bert.batch()), network(*bert.batch())
    mask = bert.batch()[1]
    told = in_a_row(theirs, mask)
    torch.testing.assert_close(in_a_row(ours, mask), told, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.features, theirs.features, rtol=0, atol=1e-5)
    assert told.std() > 1e-3


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Small]:
    """Of every family and kind; those of a stock classifier have a pooler."""
    found = {(family, kind): small(family, kind) for family in FAMILIES for kind in KINDS}
    for family in FAMILIES:
        whole = found[family, "texts"]
        teacher = stock(family, tmp_path_factory.mktemp(family))
        network = whole_network(teacher, max_tokens=MAX_TOKENS)
        found[family, "stock"] = whole._replace(teacher=teacher, network=network)
    return found


@pytest.mark.parametrize("kind", ["stock", *KINDS])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "importance"), PASSES)
def test_a_pass_leaves_its_argument_alone_and_is_read_again(
    name: str, importance: str, family: str, kind: str,
    networks: dict[tuple[str, str], Small],
) -> None:  # fmt: skip
    bert = networks[family, kind]
    network = bert.network
    options = {"name": name, **({"importance": importance} if importance else {})}
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    settings = TypeAdapter(AnyStructural).validate_python(options)
    changed = STRUCTURAL_PASSES.load(name)(network, settings, bert.given).eval()
    assert all(torch.equal(t, before[key]) for key, t in network.state_dict().items())
    assert num_parameters(changed)[0] < num_parameters(network)[0]
    shared = {p.data_ptr() for p in network.parameters()}
    assert not shared & {p.data_ptr() for p in changed.parameters()}
    again = Shape.from_json(Shape.of(changed).as_json()).network().eval()
    again.load_state_dict(changed.state_dict())
    assert type(again) is type(changed) is type(network)
    first, second = bert.said(changed), bert.said(again)
    # Products of copies round otherwise: they lie in memory in another order.
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert first.shape == bert.said(network).shape


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
