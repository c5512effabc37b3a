"""A strategy pays for a token of a tagger what it pays for a classifier's text of that token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal
from edgedistill.core.protocols import Batch, ModelOutput, Signal
from edgedistill.core.strategies import ConsistencySettings, CurriculumSpec, Strategies
from edgedistill.models.internals import NetworkShape
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.combined import Combined
from edgedistill.train.distill.consistency import Consistency, symmetric_divergence, view
from edgedistill.train.distill.curriculum import Curriculum, Pace, distance, unsureness
from edgedistill.train.distill.response import ResponseConfig
from edgedistill.train.distill.seen import Seen
from edgedistill.train.distill.strategies import asked_layers, weighted_parts
from edgedistill.train.token_rows import TokenBatch, TokenSet

CPU, SHAPE = torch.device("cpu"), NetworkShape(3, 4, 2, 2)
FORMS: Any = TypeAdapter(Strategies)
#: Tokens 1 and 2 stand for no characters.
TEXTS = ([1, 5, 6, 7, 2], [1, 8, 2], [1, 9, 10, 11, 12, 13, 2])
PARTS: dict[str, dict[str, Any]] = {
    "kl": {"name": "response", "hard_weight": 0.3, "energy_weight": 0.2},
    "mse": {"name": "response", "loss": "mse"},
    "decoupled": {"name": "response", "loss": "decoupled", "temperature": 3.0},
    "average": {"name": "average", "decay": 0.3, "temperature": 2.0},
    "shallow": {"name": "shallow"},
}


class Alone(nn.Module):
    """Three layers that read every token by itself, in float64; the head reads each token, or the
    mean of a text."""

    def __init__(self, *, is_tagger: bool) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.table = nn.Embedding(20, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 3)
        self.is_tagger = is_tagger
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
        read = states[-1] if self.is_tagger else features
        return ModelOutput(self.head(read), features), {Signal.STATES: states[1:]}


def documents() -> TokenSet:
    """Three texts; tokens with characters have the teacher's logits, of which some have a tag."""
    texts = Encoded.from_lists(TEXTS)
    logits = 3 * np.random.default_rng(0).normal(size=(len(texts.ids), 3)).astype(np.float32)
    is_content = texts.ids > 2
    tags = np.where(is_content & (texts.ids % 3 > 0), texts.ids % 3, -1).astype(np.int16)
    return TokenSet(texts, is_content, tags, 0, {Signal.LOGITS: logits})


def every_token() -> TrainingSet:
    """Each token with characters as a text of its own."""
    data = documents()
    kept = data.is_content
    return TrainingSet(
        Encoded.from_lists([[int(i)] for i in data.texts.ids[kept]]),
        data.tags[kept].astype(np.int64), 0, {Signal.LOGITS: data.signals[Signal.LOGITS][kept]},
    )  # fmt: skip


def paid(name: str, examples: TokenSet | TrainingSet) -> tuple[list[float], list[Tensor]]:
    """Terms of three steps of a strategy, of which each moves the weights alike, and the last
    slope of the table."""
    settings = FORMS.validate_python(["response", PARTS[name]])
    parts = weighted_parts(settings, ResponseConfig(), SHAPE, SHAPE)[1:]
    model = Alone(is_tagger=isinstance(examples, TokenSet))
    step = Combined(parts)
    learner = step.learner(model)
    given = examples.batch(np.arange(len(examples)), CPU)
    values: list[float] = []
    for _ in range(3):
        learner.zero_grad()
        terms = step(learner, given, rng=torch.Generator())
        torch.stack(list(terms.values())).sum().backward()
        values += [float(value.detach()) for value in terms.values()]
        with torch.no_grad():
            for number, parameter in enumerate(learner.parameters()):
                parameter += 0.1 * torch.sin(torch.arange(parameter.numel()) + number).reshape(
                    parameter.shape
                )
    assert model.table.weight.grad is not None
    return values, [model.table.weight.grad, *(p.detach() for p in learner.parameters())]


@pytest.mark.parametrize("name", PARTS)
def test_tokens_cost_what_texts_of_one_token_cost(name: str) -> None:
    ours, moved = paid(name, documents())
    theirs, moved_theirs = paid(name, every_token())
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
    assert max(map(abs, ours)) > 1e-4
    for a, b in zip(moved, moved_theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)
    # Neither padding nor what stands for no characters is taught.
    assert not moved[0][:3].any()


def test_two_views_are_compared_at_every_token_with_characters() -> None:
    model, given = Alone(is_tagger=True), documents().batch(np.arange(3), CPU)

    class Counting(nn.Module):
        """Answers that tell how many tokens were seen."""

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
            output = model(input_ids, attention_mask)
            seen = attention_mask.sum(1)[:, None, None] * torch.tensor([0.3, 0.0, -0.3])
            return ModelOutput(output.logits + seen, output.features)

    counting, settings = Counting(), ConsistencySettings(token_dropout=0.4)
    seen = Seen(counting, given, torch.Generator().manual_seed(1), counting(*_inputs(given)))
    (value,) = Consistency(settings).terms(seen).values()
    rng = torch.Generator().manual_seed(1)
    views = [view(given.attention_mask, 0.4, rng) for _ in range(2)]
    assert not torch.equal(*views)
    rows = [counting(given.input_ids, each).logits[given.is_content] for each in views]
    assert len(rows[0]) == int(documents().is_content.sum()) == 9
    torch.testing.assert_close(value, symmetric_divergence(*rows))
    assert float(value.detach()) > 1e-3


def _inputs(batch: Batch) -> tuple[Tensor, Tensor]:
    return batch.input_ids, batch.attention_mask


def test_what_is_kept_by_text_comes_with_its_tokens() -> None:
    data = documents()
    states = np.random.default_rng(2).normal(size=(3, 1, 7, 4)).astype(np.float16)
    settings = FORMS.validate_python(["response", {"name": "feature", "layers": [[2, 1]]}])
    parts = weighted_parts(settings, ResponseConfig(), SHAPE, SHAPE)
    step = Combined(parts, layers=asked_layers(parts))
    with pytest.raises(MissingSignal, match="hidden states"):
        data.require(step.needs)
    whole = TokenSet(data.texts, data.is_content, data.tags, 0, data.signals,
                     {Signal.STATES: states})  # fmt: skip
    whole.require(step.needs)
    given = whole.batch(np.array([2, 1]), CPU)
    assert isinstance(given, TokenBatch)
    model = Alone(is_tagger=True)
    terms = step(step.learner(model), given, rng=torch.Generator())
    _, inside = model.read(*_inputs(given))
    ours = inside[Signal.STATES][2].detach().numpy()
    # All real tokens count, those without characters too.
    apart = [(ours[place, :length] - states[row, 0, :length]) ** 2
             for place, (row, length) in enumerate([(2, 7), (1, 3)])]  # fmt: skip
    expected = np.concatenate(apart).mean()
    assert float(terms["feature/states"].detach()) == pytest.approx(expected, rel=1e-6)
    _, *soft = (float(value.detach()) for value in terms.values())
    assert np.isfinite(soft).all()


def test_a_text_is_as_hard_as_its_tokens_on_average() -> None:
    data = documents()
    logits = data.signals[Signal.LOGITS]
    student = np.random.default_rng(5).normal(size=logits.shape)
    for values in (unsureness(logits), distance(student, logits, 2.0)):
        expected = [values[data.texts.starts[row] + 1 : data.texts.starts[row + 1] - 1].mean()
                    for row in range(3)]  # fmt: skip
        np.testing.assert_allclose(data.by_text(values), expected)
    bare = TokenSet(Encoded.from_lists([[1, 2], [1, 7, 2]]), np.array([0, 0, 0, 1, 0], bool),
                    np.full(5, -1), 0)  # fmt: skip
    np.testing.assert_array_equal(bare.by_text(np.arange(5.0)), [0.0, 3.0])


def test_a_curriculum_draws_texts_with_all_their_tokens() -> None:
    data = documents()
    pace = Pace(CurriculumSpec(parts=3), 10)
    drawn = list(Curriculum(data, data.texts.lengths, pace).batches(8, 0, 0, CPU))
    assert [int(batch.attention_mask.sum()) for batch in drawn] == [9]
    pace.opened.fill_(3)
    (batch,) = Curriculum(data, data.texts.lengths, pace).batches(8, 0, 0, CPU)
    assert sorted(batch.input_ids[batch.input_ids > 2].tolist()) == list(range(5, 14))
