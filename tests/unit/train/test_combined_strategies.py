"""Parts under one step: weights, schedules, balance, and what a checkpoint must keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal
from edgedistill.core.events import Event, silent
from edgedistill.core.protocols import Batch, ModelOutput, Signal
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.combined import MEMORY, Combined, Learner, Weighted
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.distill.seen import Seen
from edgedistill.train.loop import LoopConfig, TrainingResult, train


class Mean(nn.Module):
    """A table and a head; tells its table's vectors as the states of its only layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        return self.read(input_ids, attention_mask)[0]

    def read(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[ModelOutput, dict[Signal, list[Tensor]]]:
        states = self.table(input_ids)
        features = (states * attention_mask[..., None]).sum(1)
        return ModelOutput(self.head(features), features), {Signal.STATES: [states]}


class Size:
    """A part that costs what it is told to, one number a call, times a parameter of its own."""

    needs: ClassVar[frozenset[Signal]] = frozenset()
    layers: ClassVar[tuple[tuple[int, int], ...]] = ()

    def __init__(self, *sizes: float) -> None:
        self.sizes = list(sizes)
        self.factor = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.factor.weight)
        self.learned: nn.Module | None = self.factor

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        return {"a": 0.75 * self.sizes[0] * self.factor.weight.sum(),
                "b": 0.25 * self.sizes.pop(0) * self.factor.weight.sum()}  # fmt: skip


class States:
    """The first state of the teacher's third layer, as it comes, against the student's."""

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.STATES})
    layers: ClassVar[tuple[tuple[int, int], ...]] = ((0, 2),)
    learned: ClassVar[nn.Module | None] = None

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        ours, theirs = seen.pair(Signal.STATES, 0, 2)
        return {"states": (ours - theirs)[:, 0].square().mean()}


def batch(**signals: Tensor) -> Batch:
    ids = torch.arange(8).reshape(4, 2)
    logits = torch.linspace(-1, 1, 12).reshape(4, 3)
    given = {Signal.LOGITS: logits, **{Signal[name]: x for name, x in signals.items()}}
    return Batch(ids, torch.ones_like(ids), torch.full((4,), -1), given)


def call(step: Combined, learner: Learner, given: Batch | None = None) -> dict[str, float]:
    terms = step(learner, given or batch(), rng=torch.Generator())
    return {name: float(value.detach()) for name, value in terms.items()}


def test_terms_are_named_by_part_and_weighted() -> None:
    step = Combined([Weighted("size", Size(4.0), 0.5), Weighted("size", Size(2.0), 3.0)])
    terms = call(step, step.learner(Mean()))
    assert terms == {"size/a": 1.5, "size/b": 0.5, "size-2/a": 4.5, "size-2/b": 1.5}


def test_one_part_of_weight_one_is_the_step_itself() -> None:
    torch.manual_seed(0)
    model = Mean()
    response = Response(ResponseConfig(energy_weight=0.1))
    step = Combined([Weighted("response", response)])
    alone = response(model, batch(), rng=torch.Generator())
    together = step(step.learner(model), batch(), rng=torch.Generator())
    assert {f"response/{name}": x for name, x in alone.items()} == together


def test_a_weight_goes_in_a_straight_line_and_stays() -> None:
    step = Combined([Weighted("size", Size(*[1.0] * 6), 1.0, 0.0)], num_steps=4)
    learner = step.learner(Mean())
    sums = [sum(call(step, learner).values()) for _ in range(6)]
    assert sums == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])


def test_balance_divides_by_the_running_mean_of_a_parts_own_size() -> None:
    sizes = [8.0, 2.0, 5.0, 5.0]
    step = Combined([Weighted("size", Size(*sizes), 2.0)], balance=True)
    learner = step.learner(Mean())
    for done in range(1, 5):
        weights = (1 - MEMORY) * MEMORY ** np.arange(done)[::-1]
        mean = (weights * sizes[:done]).sum() / (1 - MEMORY**done)
        terms = step(learner, batch(), rng=torch.Generator())
        total = torch.stack(list(terms.values())).sum()
        assert float(total.detach()) == pytest.approx(2.0 * sizes[done - 1] / mean)
        # The mean is a constant to the gradient.
        learner.zero_grad()
        total.backward()
        found = learner.learned[0].weight.grad
        assert isinstance(found, Tensor)
        assert float(found) == pytest.approx(2.0 * sizes[done - 1] / mean)


def test_a_part_that_costs_nothing_is_not_blown_up_by_balance() -> None:
    step = Combined([Weighted("size", Size(0.0, 0.0))], balance=True)
    learner = step.learner(Mean())
    assert [sum(call(step, learner).values()) for _ in range(2)] == [0.0, 0.0]


@pytest.mark.parametrize("is_live", [False, True])
def test_the_teachers_layers_come_with_the_batch_or_are_read_along(is_live: bool) -> None:
    torch.manual_seed(0)
    layers = torch.randn(4, 2, 2, 4)  # texts, layers 1 and 2, tokens, width
    model = Mean()
    step = Combined(
        [Weighted("states", States())],
        layers={Signal.STATES: (1, 2)},
        live=(lambda _: {Signal.STATES: layers}) if is_live else None,
    )
    assert step.needs == (frozenset() if is_live else {Signal.STATES})
    given = batch() if is_live else batch(STATES=layers)
    expected = (model.table.weight[[0, 2, 4, 6]] - layers[:, 1, 0]).square().mean()
    terms = call(step, step.learner(model), given)
    assert terms == {"states/states": pytest.approx(float(expected.detach()))}


class Products:
    """The square of every first state: the least of a product of matrices."""

    needs: ClassVar[frozenset[Signal]] = frozenset({Signal.STATES})
    learned: ClassVar[nn.Module | None] = None

    def __init__(self, *layers: tuple[int, int]) -> None:
        self.layers = layers

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        states = next(iter(seen.teacher[Signal.STATES].values()))[:, 0]
        return {"squares": (states @ states.T).sum()}


def test_insides_are_compared_in_full_precision_in_a_half_precise_training() -> None:
    layers = torch.full((4, 1, 2, 4), 1.0 + 2.0**-9)  # which bfloat16 cannot tell from 1
    given = batch(STATES=layers)
    found = []
    for part in (Products((0, 2)), Products()):
        step = Combined([Weighted("products", part)], layers={Signal.STATES: (2,)})
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(call(step, step.learner(Mean()), given)["products/squares"])
            assert torch.is_autocast_enabled("cpu")
    assert found == [pytest.approx(64 * (1 + 2.0**-9) ** 2), pytest.approx(64.0)]


def test_a_signal_that_is_not_there_is_refused(tmp_path: Path) -> None:
    step = Combined([Weighted("states", States())], layers={Signal.STATES: (2,)})
    texts = TrainingSet(Encoded.from_lists([[1, 2]]), np.zeros(1, np.int64), 0)
    with pytest.raises(MissingSignal, match="hidden states"):
        train(
            step.learner(Mean()), step, texts, score=lambda _: 0.0, stage="test", listener=silent,
            config=LoopConfig(1, 0.1), checkpoints=tmp_path,
        )  # fmt: skip


class Killed(Exception):
    """In a training's place."""


def trained(folder: Path, *, killed_after: int | None) -> tuple[TrainingResult, Learner]:
    """Six epochs with balance and a schedule, cut off once after so many."""
    texts = Encoded.from_lists([[1 + i % 5, 6 + i % 3] for i in range(24)])
    logits = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    examples = TrainingSet(texts, np.full(24, -1), 0, {Signal.LOGITS: logits})

    def listen(event: Event) -> None:
        if event.message == f"epoch {killed_after} of 6":
            raise Killed

    for attempt in range(2):
        torch.manual_seed(0)
        response = Response(ResponseConfig())
        step = Combined([Weighted("response", response, 1.0, 0.5)], balance=True, num_steps=18)
        learner = step.learner(Mean())
        try:
            return train(
                learner, step, examples, score=lambda _: 0.0, stage="test",
                config=LoopConfig(6, 0.01, batch_size=8, patience=9),
                checkpoints=folder, listener=silent if attempt else listen,
            ), learner  # fmt: skip
        except Killed:
            assert not attempt
    raise AssertionError


def test_a_killed_training_goes_on_with_its_means_and_its_schedule(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", killed_after=None)
    cut, learner = trained(tmp_path / "cut", killed_after=3)
    losses = [entry["response/soft"] for entry in whole.history]
    assert [entry["response/soft"] for entry in cut.history] == losses
    assert len(set(losses)) == 6
    # The weights that are kept are those of the best epoch, here the first.
    assert int(learner.steps) == 3
