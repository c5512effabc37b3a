"""A classifier on an encoder: written, read, and taken over with labels in another order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from edgedistill.core.errors import ModelError
from edgedistill.models.teachers.encoder import (
    fine_tuned_classifier,
    load_classifier,
    masked_mean,
    new_classifier,
    save_classifier,
)

LABELS = ("cancel", "order", "refund")
IDS = torch.tensor([[2, 50, 60, 70, 3], [2, 90, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.fixture
def fine_tuned(teacher_folder: Path, tmp_path: Path) -> Path:
    """A sequence classifier of transformers with its labels in an order of its own."""
    torch.manual_seed(3)
    model = BertForSequenceClassification.from_pretrained(
        teacher_folder,
        num_labels=3,
        id2label={0: "refund", 1: "cancel", 2: "order"},
        label2id={"refund": 0, "cancel": 1, "order": 2},
    )
    model.save_pretrained(tmp_path / "fine-tuned")
    return tmp_path / "fine-tuned"


def test_masked_mean_leaves_padding_out() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    mean = masked_mean(hidden, torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(mean, torch.tensor([[2.0, 3.0]]))
    assert torch.equal(masked_mean(hidden, torch.zeros(1, 3)), torch.zeros(1, 2))


def test_what_is_saved_answers_the_same_when_loaded(teacher_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = new_classifier(teacher_folder, 3).eval()
    save_classifier(model, tmp_path / "saved", LABELS)
    again = load_classifier(tmp_path / "saved", LABELS)
    assert not again.training
    with torch.no_grad():
        before, after = model(IDS, MASK), again(IDS, MASK)
    assert torch.equal(before.logits, after.logits)
    assert torch.equal(before.features, after.features)
    assert before.features.shape == (2, 32)


def test_a_new_classifier_holds_no_weights_that_no_loss_reaches(teacher_folder: Path) -> None:
    model = new_classifier(teacher_folder, 3)
    model(IDS, MASK).logits.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("labels", [LABELS[::-1], LABELS[:2], (*LABELS, "other")])
def test_other_labels_than_those_saved_are_refused(
    teacher_folder: Path, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    save_classifier(new_classifier(teacher_folder, 3), tmp_path / "saved", LABELS)
    with pytest.raises(ModelError, match="other labels"):
        load_classifier(tmp_path / "saved", labels)


def test_logits_of_a_fine_tuned_classifier_are_in_the_order_of_the_task(fine_tuned: Path) -> None:
    reference = BertForSequenceClassification.from_pretrained(fine_tuned).eval()
    model = fine_tuned_classifier(fine_tuned, LABELS).eval()
    with torch.no_grad():
        expected = reference(input_ids=IDS, attention_mask=MASK, output_hidden_states=True)
        found = model(IDS, MASK)
    order = [["refund", "cancel", "order"].index(label) for label in LABELS]
    torch.testing.assert_close(found.logits, expected.logits[:, order])
    assert not torch.allclose(found.logits, expected.logits)
    features = masked_mean(expected.hidden_states[-1], MASK)
    torch.testing.assert_close(found.features, features)


def test_a_classifier_of_this_project_is_taken_as_saved(
    teacher_folder: Path, tmp_path: Path
) -> None:
    model = new_classifier(teacher_folder, 3).eval()
    save_classifier(model, tmp_path / "saved", LABELS)
    again = fine_tuned_classifier(tmp_path / "saved", LABELS)
    with torch.no_grad():
        assert torch.equal(again(IDS, MASK).logits, model(IDS, MASK).logits)


@pytest.mark.parametrize(
    ("labels", "differs"),
    [(("cancel", "order", "return"), "return"), (("cancel", "order"), "refund")],
)
def test_a_fine_tuned_classifier_with_other_labels_is_refused(
    fine_tuned: Path, labels: tuple[str, ...], differs: str
) -> None:
    with pytest.raises(ModelError, match=differs) as caught:
        fine_tuned_classifier(fine_tuned, labels)
    assert "id2label" in str(caught.value)


@pytest.mark.parametrize("weights", [b"", b"cos\nsystem\n(S'true'\ntR.", b"\x08" + b"\0" * 7])
def test_weights_that_are_no_safetensors_are_refused(
    teacher_folder: Path, tmp_path: Path, weights: bytes
) -> None:
    folder = shutil.copytree(teacher_folder, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        new_classifier(folder, 3)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("config", ["{}", '{"model_type": "no-such-model"}', "{"])
def test_a_config_that_names_no_known_model_is_refused(
    teacher_folder: Path, tmp_path: Path, config: str
) -> None:
    folder = shutil.copytree(teacher_folder, tmp_path / "model")
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match="cannot be loaded"):
        new_classifier(folder, 3)


def test_weights_of_another_shape_are_refused(teacher_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(teacher_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        new_classifier(folder, 3)


def test_weights_that_lack_tensors_are_refused_not_made_up(
    teacher_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(teacher_folder, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    name = next(n for n in state if n.endswith("layer.1.output.dense.weight"))
    save_file({n: t for n, t in state.items() if n != name}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=name) as caught:
        new_classifier(folder, 3)
    assert "lack 1 of the model's tensors" in str(caught.value)
    pooler = {n: t for n, t in state.items() if not n.startswith("pooler.")}
    assert len(pooler) < len(state)
    save_file(pooler, folder / "model.safetensors", {"format": "pt"})
    new_classifier(folder, 3)


def test_an_encoder_is_no_fine_tuned_classifier(teacher_folder: Path) -> None:
    with pytest.raises(ModelError, match="classifier"):
        fine_tuned_classifier(teacher_folder, ("LABEL_0", "LABEL_1"))
