"""Elastic weight consolidation: Fisher information against slopes and curvature found otherwise."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import silent
from edgedistill.core.protocols import Batch, ModelOutput
from edgedistill.train.batches import TrainingSet
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.tune.elastic import Anchor, Elastic, anchor_at, diagonal_fisher
from edgedistill.train.tune.supervised import Supervised


class Small(nn.Module):
    """Sum of token vectors, dropout, a linear head; `unused` takes no part in the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 3)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(3, 4)
        self.unused = nn.Linear(2, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        features = (self.table(input_ids) * attention_mask[..., None]).sum(1)
        return ModelOutput(self.head(self.dropout(features)), features)


def small() -> Small:
    torch.manual_seed(0)
    return Small().double()


def texts(*rows: list[int]) -> TrainingSet:
    return TrainingSet(Encoded.from_lists(rows), np.zeros(len(rows), np.int64), 0)


def log_likelihood(model: nn.Module, ids: list[int], label: int) -> float:
    tokens = torch.tensor([ids])
    return float(model(tokens, torch.ones_like(tokens)).logits.log_softmax(1)[0, label].detach())


def test_fisher_is_the_mean_square_of_slopes_found_by_differences() -> None:
    model, rows = small().eval(), ([1, 2], [3], [4, 5, 1, 1], [2, 2])
    drawn, rng = [], torch.Generator().manual_seed(3)
    for ids in rows:
        tokens = torch.tensor([ids])
        told = model(tokens, torch.ones_like(tokens)).logits.detach().softmax(1)
        drawn.append(int(torch.multinomial(told, 1, generator=rng)))
    assert len(set(drawn)) > 1
    # Dropout is off while slopes are measured, and on again after.
    model.train()
    found = diagonal_fisher(model, texts(*rows), np.arange(4), torch.Generator().manual_seed(3))
    assert model.training
    model.eval()
    for name, parameter in model.named_parameters():
        flat = parameter.data.view(-1)
        expected = torch.zeros_like(flat)
        for place in range(len(flat)):
            start, slopes = float(flat[place]), []
            for ids, label in zip(rows, drawn, strict=True):
                ends = []
                for step in (1e-6, -1e-6):
                    flat[place] = start + step
                    ends.append(log_likelihood(model, ids, label))
                slopes.append((ends[0] - ends[1]) / 2e-6)
            flat[place] = start
            expected[place] = float(np.mean(np.square(slopes)))
        torch.testing.assert_close(found[name].view(-1), expected, rtol=1e-5, atol=1e-9)
    # What no text reaches is free to move.
    assert float(found["unused.weight"].abs().max()) == 0.0
    assert float(found["table.weight"][9].abs().max()) == 0.0


def test_fisher_is_the_curvature_where_logits_are_linear() -> None:
    """Of weights that logits are linear in, it is the diagonal of the Hessian of the loss, whatever
    the labels: here that of the head, computed exactly."""
    model = small().eval()
    ids = torch.tensor([[1, 2, 5]])
    features = model(ids, torch.ones_like(ids)).features.detach()

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return -(features @ weight.T + model.head.bias.detach()).log_softmax(1)[0, 0]

    hessian = torch.autograd.functional.hessian(loss, model.head.weight.detach())
    exact = hessian.reshape(12, 12).diagonal().reshape(4, 3)
    num = 1500
    found = diagonal_fisher(
        model, texts(*[[1, 2, 5]] * num), np.arange(num), torch.Generator().manual_seed(0)
    )["head.weight"]  # fmt: skip
    torch.testing.assert_close(found, exact, rtol=0.2, atol=0.005)


def test_the_penalty_and_its_slope_by_hand() -> None:
    model = small()
    model.table.weight.requires_grad_(False)
    first = anchor_at(model, texts([1, 2], [3, 4]), torch.Generator().manual_seed(1))
    assert "table.weight" not in first.importance
    with torch.no_grad():
        model.head.weight += 1.0
    second = Anchor(
        {"head.bias": model.head.bias.detach() + 2.0}, {"head.bias": torch.full((4,), 3.0)}
    )
    step = Elastic(Supervised(), model, [first, second], 0.5)
    assert step.needs == Supervised.needs
    batch = Batch(torch.tensor([[1, 2]]), torch.ones(1, 2).long(), torch.tensor([2]))
    model.eval()
    terms = step(model, batch, rng=torch.Generator())
    assert (
        terms["cross_entropy"] == Supervised()(model, batch, rng=torch.Generator())["cross_entropy"]
    )
    importance = first.importance["head.weight"]
    expected = 0.25 * (float(importance.sum()) + 4 * 3.0 * 4.0)
    assert float(terms["elastic"].detach()) == pytest.approx(expected, rel=1e-12)
    terms["elastic"].backward()
    assert model.head.weight.grad is not None
    torch.testing.assert_close(model.head.weight.grad, 0.5 * importance)
    assert model.head.bias.grad is not None
    torch.testing.assert_close(model.head.bias.grad, torch.full((4,), -3.0).double())


def lost(folder: Path, strength: float) -> tuple[float, float]:
    """Loss on the first rows after learning others that share no token with them but one, and the
    loss on these."""
    torch.manual_seed(0)
    model = Small()
    rng = np.random.default_rng(0)
    sets = []
    for low, shift in ((1, 0), (6, 2)):
        ids = [[low + int(i), 11] for i in rng.integers(0, 4, 60)]
        labels = np.array([(row[0] - low + shift) % 4 for row in ids])
        sets.append(TrainingSet(Encoded.from_lists(ids), labels, 0))
    config = LoopConfig(15, 0.05, batch_size=16, patience=99, weight_decay=0.0)
    epochs = count()

    def learn(step: Supervised | Elastic, data: TrainingSet, name: str) -> None:
        # Later is better: the weights of the last epoch are kept.
        train(model, step, data, score=lambda _: float(next(epochs)), config=config,
              checkpoints=folder / name, stage=name, listener=silent)  # fmt: skip

    def loss(data: TrainingSet) -> float:
        batch = data.batch(np.arange(len(data)), torch.device("cpu"))
        model.eval()
        with torch.no_grad():
            return float(Supervised()(model, batch, rng=torch.Generator())["cross_entropy"])

    learn(Supervised(), sets[0], "first")
    anchors = [anchor_at(model, sets[0], torch.Generator().manual_seed(0))]
    learn(Elastic(Supervised(), model, anchors, strength), sets[1], "second")
    return loss(sets[0]), loss(sets[1])


def test_what_earlier_rows_need_is_kept(tmp_path: Path) -> None:
    (forgot, _), (kept, learned) = lost(tmp_path / "0", 0.0), lost(tmp_path / "1", 30.0)
    assert kept < 0.7 * forgot
    assert learned < 1.2
