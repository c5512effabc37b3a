"""What every training step promises to the one loop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal
from edgedistill.core.events import silent
from edgedistill.core.protocols import Batch, ModelOutput, Signal, Step
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.tune.supervised import Supervised

STEPS: dict[str, Step] = {
    "supervised": Supervised(),
    "supervised, smoothed": Supervised(label_smoothing=0.1),
    "response": Response(ResponseConfig()),
    "response with labels": Response(ResponseConfig(temperature=4.0, hard_weight=0.5)),
    "response with energy": Response(ResponseConfig(energy_weight=0.1)),
    "labels through response": Response(ResponseConfig(hard_weight=1.0)),
}


class Tiny(nn.Module):
    """One table, one head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        features = (self.table(input_ids) * attention_mask[..., None]).sum(1)
        return ModelOutput(self.head(features), features)


def batch() -> Batch:
    """Four texts, one of them without a label."""
    rng = torch.Generator().manual_seed(0)
    return Batch(
        torch.randint(1, 12, (4, 5), generator=rng),
        torch.ones(4, 5, dtype=torch.int64),
        torch.tensor([0, 2, -1, 1]),
        {signal: torch.randn(4, 3, generator=rng) for signal in Signal if signal != Signal.LABELS},
    )


@pytest.fixture
def model() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


@pytest.mark.parametrize("name", STEPS)
def test_terms_are_finite_and_reach_every_parameter(model: Tiny, name: str) -> None:
    terms = STEPS[name](model, batch(), rng=torch.Generator())
    assert terms
    assert all(term.shape == () and math.isfinite(term.item()) for term in terms.values())
    sum(terms.values(), torch.zeros(())).backward()
    for parameter, values in model.named_parameters():
        assert values.grad is not None, parameter
        assert torch.isfinite(values.grad).all(), parameter
        assert values.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", STEPS)
def test_a_step_down_the_gradient_lowers_the_loss(model: Tiny, name: str) -> None:
    given = batch()

    def loss() -> torch.Tensor:
        terms = STEPS[name](model, given, rng=torch.Generator())
        return torch.stack(list(terms.values())).sum()

    before = loss()
    before.backward()
    with torch.no_grad():
        for values in model.parameters():
            assert values.grad is not None
            values -= 0.01 * values.grad
    assert loss() < before


@pytest.mark.parametrize("name", STEPS)
def test_a_batch_without_labels_stays_finite(model: Tiny, name: str) -> None:
    given = batch()
    bare = Batch(
        given.input_ids, given.attention_mask, torch.full((4,), -1), given.signals
    )  # as drawn from an unlabelled pool
    terms = STEPS[name](model, bare, rng=torch.Generator())
    assert all(math.isfinite(term.item()) for term in terms.values())


@pytest.mark.parametrize("name", STEPS)
def test_a_missing_signal_is_refused_before_work(model: Tiny, name: str, tmp_path: Path) -> None:
    step = STEPS[name]
    assert step.needs
    texts = Encoded.from_lists([[1, 2], [3]])
    nothing = TrainingSet(texts, np.full(2, -1), 0)
    before = model.head.weight.clone()
    with pytest.raises(MissingSignal) as caught:
        train(
            model, step, nothing, score=lambda _: 0.0,
            config=LoopConfig(num_epochs=1, learning_rate=0.1),
            checkpoints=tmp_path, stage="test", listener=silent,
        )  # fmt: skip
    assert caught.value.exit_code == 4
    assert any(need.value in str(caught.value) for need in step.needs)
    assert torch.equal(model.head.weight, before)
    assert list(tmp_path.iterdir()) == []
