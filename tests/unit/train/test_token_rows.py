"""Tokens as rows: what a step is given of a batch of texts, and what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal
from edgedistill.core.events import silent
from edgedistill.core.protocols import ModelOutput, Signal
from edgedistill.models.inference import token_outputs
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.token_rows import TokenSet
from edgedistill.train.tune.supervised import Supervised

NUM_TAGS, VOCABULARY = 3, 20
CPU = torch.device("cpu")
ROWS = ([1, 5, 6, 7, 2], [1, 8, 2], [1, 9, 10, 11, 12, 13, 2], [1, 2])


class Tagger(nn.Module):
    """Logits by token and, so that padding would show, by the number of real tokens."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(VOCABULARY, NUM_TAGS)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> ModelOutput:
        logits = self.table(ids) + mask.sum(1)[:, None, None] / 10
        return ModelOutput(logits, logits.mean(1))


def token_set(tagged: int = 3) -> tuple[TokenSet, np.ndarray]:
    """Texts of which the first `tagged` have tags, and the teacher's logits of every token."""
    texts = Encoded.from_lists(ROWS)
    is_content = (texts.ids != 1) & (texts.ids != 2)
    tags = np.where(is_content, texts.ids % NUM_TAGS, -1).astype(np.int16)
    tags[texts.starts[tagged] :] = -1
    teacher = np.random.default_rng(0).normal(size=(len(texts.ids), NUM_TAGS)).astype(np.float16)
    return TokenSet(texts, is_content, tags, 0, {Signal.LOGITS: teacher}), teacher


def test_each_token_keeps_its_tag_and_its_logits() -> None:
    data, teacher = token_set()
    seen = []
    for batch in data.batches(2, 0, 0, CPU):
        assert batch.is_content.shape == batch.input_ids.shape
        ids = batch.input_ids[batch.is_content]
        seen += list(zip(ids.tolist(), batch.labels.tolist(), batch.signals[Signal.LOGITS],
                         strict=True))  # fmt: skip
    assert data.num_batches(2, 0, 0) == 2
    places = {int(i): n for n, i in enumerate(data.texts.ids) if data.is_content[n]}
    assert sorted(entry[0] for entry in seen) == sorted(places)
    for token, tag, logits in seen:
        assert tag == data.tags[places[token]]
        assert torch.equal(logits, torch.from_numpy(teacher[places[token]].astype(np.float32)))


def test_the_loss_is_the_mean_over_real_tokens_in_float64() -> None:
    data, teacher = token_set()
    model = Tagger(1)
    (batch,) = data.batches(8, 0, 0, CPU)
    config = ResponseConfig(temperature=3.0, hard_weight=0.25, energy_weight=0.1)
    terms = Response(config)(model, batch, rng=torch.Generator())
    soft, hard, energy, tagged = [], [], [], []
    for row, tokens in enumerate(ROWS):
        for place, token in enumerate(tokens):
            flat = int(data.texts.starts[row]) + place
            if not data.is_content[flat]:
                continue
            ours = model.table.weight[token].double() + len(tokens) / 10
            theirs = torch.from_numpy(teacher[flat].astype(np.float64))
            p = functional.softmax(theirs / 3, -1)
            soft.append((p * (p.log() - functional.log_softmax(ours / 3, -1))).sum() * 9)
            energy.append((ours.logsumexp(0) - theirs.logsumexp(0)) ** 2)
            if data.tags[flat] >= 0:
                hard.append(-functional.log_softmax(ours, -1)[data.tags[flat]])
                tagged.append(flat)
    assert terms["soft"].item() == pytest.approx(0.75 * torch.stack(soft).mean().item(), rel=1e-5)
    assert terms["energy"].item() == pytest.approx(0.1 * torch.stack(energy).mean().item(), 1e-5)
    assert terms["hard"].item() == pytest.approx(0.25 * torch.stack(hard).mean().item(), rel=1e-5)
    assert len(tagged) < len(soft) + 1


def test_padding_changes_no_gradient() -> None:
    data, _ = token_set(4)
    step = Supervised()
    together, apart = Tagger(2), Tagger(2)
    (batch,) = data.batches(8, 0, 0, CPU)
    sum(step(together, batch, rng=torch.Generator()).values()).backward()  # type: ignore[union-attr]
    num = int(data.is_content.sum())
    for one in data.batches(1, 0, 0, CPU):
        loss = step(apart, one, rng=torch.Generator())["cross_entropy"]
        (loss * len(one.labels) / num).backward()
    assert torch.allclose(together.table.weight.grad, apart.table.weight.grad, atol=1e-6)  # type: ignore[arg-type]
    assert together.table.weight.grad[0].abs().sum() == 0  # type: ignore[index]


def test_a_text_without_characters_costs_nothing() -> None:
    data, _ = token_set(4)
    alone = TokenSet(data.texts.part(3, 4), data.is_content[-2:], data.tags[-2:], 0)
    (batch,) = alone.batches(4, 0, 0, CPU)
    loss = Supervised()(Tagger(0), batch, rng=torch.Generator())["cross_entropy"]
    assert loss.item() == 0.0


def test_what_is_missing_is_told() -> None:
    data, _ = token_set()
    bare = TokenSet(data.texts, data.is_content, np.full_like(data.tags, -1), 0)
    with pytest.raises(MissingSignal, match="spans"):
        bare.require(Supervised().needs)
    with pytest.raises(MissingSignal, match="logits"):
        bare.require(Response(ResponseConfig()).needs)
    data.require(Response(ResponseConfig()).needs | Supervised().needs)


def test_outputs_stand_in_the_order_of_the_texts() -> None:
    data, _ = token_set()
    model = Tagger(3)
    logits, features = token_outputs(model, data.texts, pad_id=0, batch_size=2)
    for row, tokens in enumerate(ROWS):
        start, stop = data.texts.starts[row : row + 2]
        expected = model.table.weight[torch.tensor(tokens)] + len(tokens) / 10
        assert np.allclose(logits[start:stop], expected.detach(), atol=1e-6)
    assert features.shape == (4, NUM_TAGS)
    empty, _ = token_outputs(model, data.texts.part(0, 0), pad_id=0)
    assert empty.shape == (0, 0)


def test_one_loop_trains_a_tagger_to_its_teacher(tmp_path: Path) -> None:
    data, _ = token_set()
    teacher, student = Tagger(4), Tagger(5)
    logits, _ = token_outputs(teacher, data.texts, pad_id=0)
    cached = TokenSet(data.texts, data.is_content, data.tags, 0, {Signal.LOGITS: logits})
    result = train(
        student, Response(ResponseConfig(energy_weight=1.0)), cached,
        score=lambda m: -float(np.abs(token_outputs(m, data.texts, pad_id=0)[0] - logits)
                               [data.is_content].max()),
        config=LoopConfig(num_epochs=200, learning_rate=0.05, batch_size=2, patience=200),
        checkpoints=tmp_path, stage="student", listener=silent,
    )  # fmt: skip
    assert result.history[0]["validation"] < -1.5
    assert result.best_score > -0.25
