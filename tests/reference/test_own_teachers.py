"""A student as its own teacher, against float64 arithmetic, and what must reach whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import SpecError
from edgedistill.core.events import Event, silent
from edgedistill.core.protocols import Batch, ModelOutput, Signal
from edgedistill.core.strategies import AverageSettings, ShallowSettings
from edgedistill.models.internals import NetworkShape
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.average import Average
from edgedistill.train.distill.combined import Combined, Learner, Weighted
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.distill.seen import OwnTeacher, Seen
from edgedistill.train.distill.shallow import Shallow
from edgedistill.train.loop import LoopConfig, train

SHAPE = NetworkShape(3, 4, 2, 2)


class Deep(nn.Module):
    """Three layers, each a matrix; the mean of the last is read by a head. float64."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 3)
        self.double()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        return self.read(input_ids, attention_mask)[0]

    def read(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[ModelOutput, dict[Signal, list[Tensor]]]:
        states = [self.table(input_ids)]
        for layer in self.layers:
            states.append(torch.tanh(layer(states[-1])))
        weights = attention_mask.double()[..., None]
        features = (states[-1] * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return ModelOutput(self.head(features), features), {Signal.STATES: states[1:]}


def student() -> Deep:
    torch.manual_seed(4)
    return Deep()


def batch() -> Batch:
    ids = torch.arange(6).reshape(2, 3)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    return Batch(ids, mask, torch.full((2,), -1), {Signal.LOGITS: torch.eye(3).double()[:2]})


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def divergence(teacher: np.ndarray, pupil: np.ndarray, temperature: float) -> float:
    p, q = softmax(teacher / temperature), softmax(pupil / temperature)
    return float((p * np.log(p / q)).sum(-1).mean() * temperature**2)


def call(step: Combined, learner: Learner) -> Tensor:
    terms = step(learner, batch(), rng=torch.Generator())
    return torch.stack(list(terms.values())).sum()


def test_shallow_by_hand() -> None:
    model = student()
    part = Shallow(ShallowSettings(temperature=2.0), SHAPE)
    assert isinstance(part, OwnTeacher)
    step = Combined([Weighted("shallow", part)])
    learner = step.learner(model)
    assert part.learned is not None
    with torch.no_grad():
        for head in part.learned:
            for parameter in head.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    output, inside = model.read(batch().input_ids, batch().attention_mask)
    expected = []
    for layer, head in zip((0, 1), part.learned, strict=True):
        states = inside[Signal.STATES][layer].detach().numpy()
        features = np.stack([states[0].mean(0), states[1, 0]])
        weight, bias = (p.detach().numpy() for p in head.parameters())
        answers = features @ weight.T + bias
        expected.append(divergence(output.logits.detach().numpy(), answers, 2.0))
    assert float(call(step, learner).detach()) == pytest.approx(np.mean(expected), rel=1e-10)
    # One layer alone, and the same through the layer's own number.
    only = Shallow(ShallowSettings(layers=(1,), temperature=2.0), SHAPE)
    only.attach(model)
    only.learned = nn.ModuleList([part.learned[1]])
    seen = Seen(model, batch(), torch.Generator(), output, inside)
    assert float(only.terms(seen)["answers"].detach()) == pytest.approx(expected[1], rel=1e-10)


def test_the_deepest_layer_and_the_head_are_taught_nothing_by_shallow() -> None:
    model = student()
    step = Combined([Weighted("shallow", Shallow(ShallowSettings(), SHAPE))])
    learner = step.learner(model)
    call(step, learner).backward()
    reached = {n for n, p in learner.named_parameters() if p.grad is not None and p.grad.any()}
    ours = {name for name in reached if name.startswith("student.")}
    assert ours == {"student.table.weight"} | {
        f"student.layers.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")
    }
    assert len(reached - ours) == 4


def test_shallow_gradients_against_finite_differences_and_its_least() -> None:
    part = Shallow(ShallowSettings(layers=(0,)), SHAPE)
    model = student()
    part.attach(model)
    deepest = torch.randn(2, 3, dtype=torch.float64)

    def value(states: Tensor) -> Tensor:
        output = ModelOutput(deepest, deepest)
        seen = Seen(model, batch(), torch.Generator(), output, {Signal.STATES: [states]})
        return part.terms(seen)["answers"]

    states = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(value, (states,))
    # A shallow layer that is the deepest has nothing to learn; its head is a copy.
    output, inside = model.read(batch().input_ids, batch().attention_mask)
    deepest = output.logits
    assert float(value(inside[Signal.STATES][2]).detach()) == pytest.approx(0.0, abs=1e-12)
    # Where nothing is real, all read the same nothing.
    none = torch.zeros(2, 3, 4, dtype=torch.float64)
    assert torch.isfinite(value(none))


def test_layers_that_are_not_shallower_are_refused() -> None:
    with pytest.raises(SpecError, match="single layer"):
        Shallow(ShallowSettings(), NetworkShape(1, 4, 2, 2))
    with pytest.raises(SpecError, match="2 is not below the student's last layer, 2"):
        Shallow(ShallowSettings(layers=(0, 2)), SHAPE)
    with pytest.raises(ValueError, match="each layer once"):
        ShallowSettings(layers=(1, 1))


def test_the_average_by_hand() -> None:
    model, rng = student(), np.random.default_rng(0)
    step = Combined([Weighted("average", Average(AverageSettings(decay=0.3, temperature=2.0)))])
    learner = step.learner(model)
    expected = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    twin = student()
    for done in range(4):
        kept = min(0.3, (1 + done) / (10 + done))
        for name, parameter in model.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * parameter.detach().numpy()
        twin.load_state_dict({name: torch.tensor(value) for name, value in expected.items()})
        theirs = twin(batch().input_ids, batch().attention_mask).logits.detach().numpy()
        ours = model(batch().input_ids, batch().attention_mask).logits.detach().numpy()
        value = float(call(step, learner).detach())
        assert value == pytest.approx(divergence(theirs, ours, 2.0), rel=1e-8, abs=1e-14)
        assert (value < 1e-12) == (done == 0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.tensor(0.1 * rng.normal(size=tuple(parameter.shape)))


def test_the_average_is_a_constant_to_the_gradient_and_not_trained() -> None:
    model = student()
    step = Combined([Weighted("average", Average(AverageSettings(decay=0.9)))])
    learner = step.learner(model)
    call(step, learner)
    with torch.no_grad():
        model.head.bias += torch.tensor([1.0, 0.0, -1.0])
    call(step, learner).backward()
    # Of KL(p ‖ softmax(z)) the slope in z is softmax(z) - p: summed over texts, that of the bias.
    part = step.parts[0].part
    assert isinstance(part, Average)
    assert part.learned is not None
    inputs = batch().input_ids, batch().attention_mask
    average = torch.func.functional_call(model, part.learned.weights(), inputs).logits
    slope = (model(*inputs).logits.softmax(-1) - average.softmax(-1)).mean(0)
    assert model.head.bias.grad is not None
    np.testing.assert_allclose(model.head.bias.grad.numpy(), slope.detach().numpy(), atol=1e-12)
    assert {name for name, _ in learner.named_parameters()} == {
        f"student.{name}" for name, _ in model.named_parameters()
    }


class Killed(Exception):
    """In a training's place."""


def trained(folder: Path, *, killed_after: int | None) -> list[float]:
    """The average's loss in five epochs, cut off once after so many."""

    def listen(event: Event) -> None:
        if event.message == f"epoch {killed_after} of 5":
            raise Killed

    texts = Encoded.from_lists([[1 + i % 5, 6 + i % 3] for i in range(24)])
    logits = 3 * np.random.default_rng(0).normal(size=(24, 3))
    examples = TrainingSet(texts, np.full(24, -1), 0, {Signal.LOGITS: logits})
    for attempt in range(2):
        step = Combined([
            Weighted("response", Response(ResponseConfig())),
            Weighted("average", Average(AverageSettings())),
            Weighted("shallow", Shallow(ShallowSettings(), SHAPE)),
        ])  # fmt: skip
        learner = step.learner(student())
        try:
            result = train(
                learner, step, examples, score=lambda _: 0.0, stage="test", checkpoints=folder,
                config=LoopConfig(5, 0.01, batch_size=8, patience=9),
                listener=silent if attempt else listen,
            )  # fmt: skip
            return [entry["average/answers"] for entry in result.history]
        except Killed:
            assert not attempt
    raise AssertionError


def test_a_killed_training_keeps_its_average(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", killed_after=None)
    assert trained(tmp_path / "cut", killed_after=3) == whole
    assert min(whole) > 0
