"""Fine-tuning held near its start: the penalty, its slope, and the limits of its weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import silent
from edgedistill.core.protocols import Batch, ModelOutput
from edgedistill.core.teachers import ClassifierTeacher
from edgedistill.train.batches import TrainingSet
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.tune.anchored import Anchored
from edgedistill.train.tune.supervised import Supervised


class Small(nn.Module):
    """A pretrained table and matrix, a new head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Embedding(12, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        features = (self.encoder(input_ids) * attention_mask[..., None]).sum(1)
        return ModelOutput(self.head(features), features)


def small() -> Small:
    torch.manual_seed(0)
    return Small().double()


def batch() -> Batch:
    ids = torch.arange(8).reshape(4, 2)
    return Batch(ids, torch.ones_like(ids), torch.tensor([0, 2, -1, 1]))


def moved(model: nn.Module) -> dict[str, np.ndarray]:
    """How far each weight is from where `small` began."""
    begun = dict(small().named_parameters())
    return {n: (p - begun[n]).detach().numpy() for n, p in model.named_parameters()}


def test_the_penalty_and_its_slope_by_hand() -> None:
    model = small()
    model.encoder[0].weight.requires_grad_(False)
    step = Anchored(Supervised(), model.encoder, 0.3)
    plain = Supervised()(model, batch(), rng=torch.Generator())
    terms = step(model, batch(), rng=torch.Generator())
    assert float(terms["anchor"].detach()) == 0.0
    assert terms["cross_entropy"] == plain["cross_entropy"]
    assert step.needs == Supervised.needs
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)
    step(model, batch(), rng=torch.Generator())["anchor"].backward()
    away = moved(model)
    held = ("encoder.1.weight", "encoder.1.bias")
    expected = 0.15 * sum((away[name] ** 2).sum() for name in held)
    found = step(model, batch(), rng=torch.Generator())["anchor"]
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)
    for name, parameter in model.named_parameters():
        if name in held:
            assert parameter.grad is not None
            np.testing.assert_allclose(parameter.grad.numpy(), 0.3 * away[name], rtol=1e-12)
        else:
            # The head is new, the table frozen.
            assert parameter.grad is None


def distance_after(folder: Path, weight: float) -> float:
    """Squared distance of the pretrained part from its start in the last epoch of a training."""
    model = small()
    texts = Encoded.from_lists([[1 + i % 5, 6 + i % 3] for i in range(24)])
    result = train(
        model, Anchored(Supervised(), model.encoder, weight),
        TrainingSet(texts, np.arange(24) % 3, 0), score=lambda _: 0.0, stage="test",
        config=LoopConfig(20, 0.05, batch_size=8, patience=99, weight_decay=0.0),
        checkpoints=folder, listener=silent,
    )  # fmt: skip
    assert result.history[-1]["cross_entropy"] < result.history[0]["cross_entropy"]
    return result.history[-1]["anchor"] / weight * 2


def test_a_stronger_pull_keeps_the_weights_nearer(tmp_path: Path) -> None:
    far, near = (distance_after(tmp_path / str(w), w) for w in (1e-4, 1.0))
    assert 0 < near < far / 10


def test_what_is_not_fine_tuned_cannot_be_held() -> None:
    with pytest.raises(ValueError, match="nothing is fine-tuned"):
        ClassifierTeacher(source="hub:a/b", num_epochs=0, l2_sp=0.1)
    for wrong in (-0.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="l2_sp"):
            ClassifierTeacher(source="hub:a/b", l2_sp=wrong)
