"""The average of the weights: against its sum by hand, and what a run is left with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import silent
from edgedistill.core.protocols import ModelOutput
from edgedistill.train.averaging import WeightAverage
from edgedistill.train.batches import TrainingSet
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.tune.supervised import Supervised


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0, 8.0])
def test_average_is_the_sum_of_the_paper(power: float) -> None:
    model = nn.Linear(3, 2, bias=False)
    values = torch.randn(20, 2, 3, dtype=torch.float64)
    average = WeightAverage(model.double(), power)
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            model.weight.copy_(value)
        average.update()
        share = (power + 1) / (step + power)
        expected = (1 - share) * expected + share * value
    torch.testing.assert_close(average.state()["weight"], expected)
    if power == 0.0:  # the plain mean of all steps
        torch.testing.assert_close(expected, values.mean(0))


def test_mean_age_is_the_share_that_is_told() -> None:
    model, power, num_steps = nn.Linear(1, 1, bias=False).double(), 3.0, 4000
    average = WeightAverage(model, power)
    for step in range(1, num_steps + 1):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update()
    age = (num_steps - average.state()["weight"].item()) / num_steps
    assert age == pytest.approx(1 / (power + 2), rel=0.01)


def test_applied_only_inside_and_frozen_weights_stay() -> None:
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1))
    model[0].weight.requires_grad_(False)
    average = WeightAverage(model, 3.0)
    before = model[1].weight.detach().clone()
    with torch.no_grad():
        model[1].weight.add_(1.0)
    with average.applied():
        assert torch.equal(model[1].weight, before)
    assert torch.equal(model[1].weight, before + 1.0)
    assert set(average.state()) == {"1.weight", "1.bias"}


def test_set_back_weights_leave_no_trace() -> None:
    model = nn.Linear(2, 1)
    average = WeightAverage(model, 3.0)
    with torch.no_grad():
        model.weight.fill_(float("inf"))
    average.update()
    with torch.no_grad():
        model.weight.fill_(0.5)
    average.restart()
    average.update()
    assert torch.equal(average.state()["weight"], torch.full((1, 2), 0.5))


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        mean = self.table(input_ids).mean(1)
        return ModelOutput(mean, mean)


def test_a_noisy_run_ends_nearer_to_its_optimum(tmp_path: Path) -> None:
    """Labels are noise at a rate far too high: the average is scored and kept."""
    rng = np.random.default_rng(0)
    labels = (rng.random(512) < 0.5).astype(np.int64)
    data = TrainingSet(Encoded.from_lists([[i % 12] for i in range(512)]), labels, 0)
    ideal = np.array([labels[i::12].mean() for i in range(12)])

    def distance(model: nn.Module) -> float:
        share = torch.softmax(model.table.weight.detach(), 1)[:, 1].numpy()  # type: ignore[union-attr,operator,arg-type]
        return float(np.abs(share - ideal).mean())

    found = {}
    for power in (None, 3.0):
        torch.manual_seed(0)
        model = Table()
        result = train(
            model, Supervised(), data, score=lambda m: -distance(m),
            config=LoopConfig(
                num_epochs=1, learning_rate=0.3, batch_size=4, averaging=power, warmup=0.0
            ),
            checkpoints=tmp_path / str(power), stage="test", listener=silent,
        )  # fmt: skip
        assert result.best_score == -distance(model)
        found[power] = distance(model)
    assert found[3.0] < found[None]
