"""The one loop: learns, resumes bit for bit, stops early, refuses what is not a number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal, ModelError
from edgedistill.core.events import Event, silent
from edgedistill.core.protocols import ModelOutput, Signal
from edgedistill.train.batches import TrainingSet, epoch_order
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.loop import LoopConfig, TrainingResult, train
from edgedistill.train.tune.supervised import Supervised


class Bag(nn.Module):
    """Mean of embeddings with dropout, so that randomness matters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        weights = attention_mask[..., None].float()
        mean = (self.table(input_ids) * weights).sum(1) / weights.sum(1)
        return ModelOutput(self.head(self.dropout(mean)), mean)


def training_set(num: int = 90) -> TrainingSet:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, num)
    rows = [
        [1 + 6 * label + int(t) for t in rng.integers(0, 6, rng.integers(2, 7))] for label in labels
    ]
    logits = np.eye(3, dtype=np.float32)[labels] * 4
    return TrainingSet(Encoded.from_lists(rows), labels, 0, {Signal.LOGITS: logits})


def run(
    folder: Path,
    *,
    epochs: int = 4,
    killed_after: int | None = None,
    averaging: float | None = None,
) -> tuple[Bag, TrainingResult]:
    torch.manual_seed(1)
    model, data = Bag(), training_set()
    done = 0

    def score(model: nn.Module) -> float:
        return float(next(model.parameters()).detach().abs().sum())

    def listener(event: Event) -> None:
        nonlocal done
        if event.metrics:
            done += 1
            if done == killed_after:
                raise KeyboardInterrupt

    result = train(
        model, Response(ResponseConfig()), data, score=score,
        config=LoopConfig(
            num_epochs=epochs, learning_rate=0.01, batch_size=8, patience=9, averaging=averaging
        ),
        checkpoints=folder, stage="test", listener=listener,
    )  # fmt: skip
    return model, result


@pytest.mark.parametrize("averaging", [None, 3.0])
def test_killed_run_resumes_bit_for_bit(tmp_path: Path, averaging: float | None) -> None:
    whole, _ = run(tmp_path / "whole", averaging=averaging)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", killed_after=2, averaging=averaging)
    resumed, result = run(tmp_path / "cut", averaging=averaging)
    assert len(result.history) == 4
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_learns_from_the_teacher_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, data = Bag(), training_set()
    unlabelled = TrainingSet(data.texts, np.full(len(data), -1), 0, data.signals)

    def accuracy(model: nn.Module) -> float:
        ids, mask = data.texts.padded(np.arange(len(data)), 0)
        model.eval()
        with torch.no_grad():
            logits = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits
        return float((logits.argmax(1).numpy() == data.labels).mean())

    before = accuracy(model)
    result = train(
        model, Response(ResponseConfig()), unlabelled, score=accuracy,
        config=LoopConfig(num_epochs=10, learning_rate=0.05, batch_size=16, patience=10),
        checkpoints=tmp_path, stage="test", listener=silent,
    )  # fmt: skip
    assert before < 0.7
    assert result.best_score > 0.95
    assert accuracy(model) == result.best_score


def test_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    scores = iter([0.5, 0.9, 0.3, 0.2, 0.8])
    result = train(
        Bag(), Supervised(), training_set(), score=lambda _: next(scores),
        config=LoopConfig(num_epochs=10, learning_rate=0.01, patience=2),
        checkpoints=tmp_path, stage="test", listener=silent,
    )  # fmt: skip
    assert (result.best_score, result.best_epoch, len(result.history)) == (0.9, 2, 4)


def test_missing_signal_is_refused_before_work(tmp_path: Path) -> None:
    data = training_set()
    bare = TrainingSet(data.texts, data.labels, 0)
    with pytest.raises(MissingSignal, match="logits"):
        train(
            Bag(), Response(ResponseConfig()), bare, score=lambda _: 0.0,
            config=LoopConfig(num_epochs=1, learning_rate=0.01),
            checkpoints=tmp_path, stage="test", listener=silent,
        )  # fmt: skip


def test_loss_that_is_not_a_number_stops(tmp_path: Path) -> None:
    data = training_set()
    broken = TrainingSet(
        data.texts, data.labels, 0, {Signal.LOGITS: np.full((len(data), 3), np.nan, np.float32)}
    )
    with pytest.raises(ModelError, match="not a number"):
        train(
            Bag(), Response(ResponseConfig()), broken, score=lambda _: 0.0,
            config=LoopConfig(num_epochs=1, learning_rate=0.01),
            checkpoints=tmp_path, stage="test", listener=silent,
        )  # fmt: skip


def test_every_row_once_an_epoch_in_an_order_of_its_own() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 1000)
    first, again, second = (epoch_order(lengths, 32, 7, epoch) for epoch in (0, 0, 1))
    assert sorted(np.concatenate(first)) == list(range(1000))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not all((a == b).all() for a, b in zip(first, second, strict=True) if len(a) == len(b))
    spread = np.mean([np.ptp(lengths[batch]) for batch in first])
    assert spread < 5
