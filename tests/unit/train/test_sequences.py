"""Batches of token sequences: every example once, within the budget, blind to its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import DataError, MissingSignal
from edgedistill.core.protocols import Signal
from edgedistill.train.sequences import SequenceSet
from edgedistill.train.tune.next_token import NextToken, learned_logits, mean_loss

CPU, VOCABULARY, PAD = torch.device("cpu"), 19, 0


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        tie_word_embeddings=True, initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def random_set(num: int, *, longest: int = 12, row_tokens: int | None = None) -> SequenceSet:
    rng = np.random.default_rng(num)
    rows = [rng.integers(1, VOCABULARY, rng.integers(1, longest + 1)).tolist() for _ in range(num)]
    learned = [(rng.random(len(row)) < 0.6).tolist() for row in rows]
    return SequenceSet.from_lists(rows, learned, PAD, row_tokens=row_tokens)


def alone(model: LlamaForCausalLM, data: SequenceSet) -> torch.Tensor:
    """The sum of the losses of the examples, each by itself, through the model's own forward."""
    total = torch.zeros(())
    for start, stop in zip(data.texts.starts[:-1], data.texts.starts[1:], strict=True):
        ids = torch.from_numpy(data.texts.ids[start:stop].astype(np.int64))
        learned = torch.from_numpy(data.learned[start:stop])[1:]
        logits = model(ids[None]).logits[0, :-1]
        total = total + functional.cross_entropy(logits[learned], ids[1:][learned], reduction="sum")
    return total


@settings(max_examples=12, deadline=None)
@given(
    num=st.integers(1, 14),
    row_tokens=st.sampled_from([None, 12, 23, 40]),
    budget=st.integers(12, 90),
)
def test_loss_and_gradients_are_the_sums_over_examples_alone(
    num: int, row_tokens: int | None, budget: int
) -> None:
    # In float64: the sums run in another order.
    data, model = random_set(num, row_tokens=row_tokens), small_model().double()
    expected = alone(model, data)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for batch in data.batches(budget, 1, 2, CPU):
        terms = NextToken()(model, batch, rng=torch.Generator())
        total = total + terms["next_token"] * int((batch.labels >= 0).sum())
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    if data.num_learned:
        total.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-5, atol=1e-5)


@given(
    lengths=st.lists(st.integers(1, 30), max_size=200),
    budget=st.integers(1, 300),
    row_tokens=st.sampled_from([None, 30, 64]),
    epoch=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_token_once_and_no_batch_over_its_budget(
    lengths: list[int], budget: int, row_tokens: int | None, epoch: int
) -> None:
    rows = [[1] * length for length in lengths]
    data = SequenceSet.from_lists(rows, [[True] * n for n in lengths], PAD, row_tokens=row_tokens)
    batches = list(data.batches(budget, 5, epoch, CPU))
    assert len(batches) == data.num_batches(budget, 5, epoch)
    index = [b.token_index[b.token_index >= 0].numpy() for b in batches]
    assert sorted(np.concatenate([[], *index])) == list(range(sum(lengths)))
    for batch in batches:
        over = batch.input_ids.numel() > budget
        assert not over or batch.input_ids.shape[0] == 1
        assert row_tokens is None or batch.input_ids.shape[1] <= row_tokens
        assert torch.equal(batch.input_ids == PAD, batch.token_index < 0)


def test_orders_follow_from_seed_and_epoch() -> None:
    for row_tokens in (None, 20):
        data = random_set(80, row_tokens=row_tokens)

        def order(seed: int, epoch: int, data: SequenceSet = data) -> list[list[int]]:
            return [b.token_index.flatten().tolist() for b in data.batches(60, seed, epoch, CPU)]

        assert order(1, 0) == order(1, 0)
        assert order(1, 0) != order(1, 1)
        assert order(1, 0) != order(2, 0)


def test_packed_rows_are_nearly_full_and_like_lengths_pad_little() -> None:
    for row_tokens in (None, 64):
        data = random_set(600, longest=40, row_tokens=row_tokens)
        places = sum(b.input_ids.numel() for b in data.batches(512, 0, 0, CPU))
        assert len(data.texts.ids) / places > 0.95


def test_signals_stand_beside_the_tokens_they_are_about() -> None:
    bare = random_set(40, row_tokens=24)
    about = bare.texts.ids[bare.learned].astype(np.float32)
    data = SequenceSet(bare.texts, bare.learned, PAD, {Signal.LOGITS: about}, row_tokens=24)
    model = small_model()
    seen = 0
    for batch in data.batches(72, 0, 0, CPU):
        logits, targets = learned_logits(model, batch)
        assert logits.shape == (len(targets), VOCABULARY)
        assert batch.signals[Signal.LOGITS].tolist() == targets.tolist()
        seen += len(targets)
    assert seen == data.num_learned > 0


def test_mean_loss_is_per_token_and_leaves_the_mode() -> None:
    data, model = random_set(9), small_model()
    with torch.no_grad():
        expected = float(alone(model, data)) / data.num_learned
    model.train()
    assert mean_loss(model, data, batch_size=30) == pytest.approx(expected, rel=1e-5)
    assert model.training


def test_what_cannot_be_learned_from_is_refused() -> None:
    texts = Encoded.from_lists([[1, 2, 3], [4, 5]])
    unlearned = SequenceSet(texts, np.zeros(5, bool), PAD)
    with pytest.raises(MissingSignal, match="no token"):
        unlearned.require(NextToken.needs)
    learned = np.array([0, 1, 1, 0, 1], bool)
    with pytest.raises(MissingSignal, match="logits"):
        SequenceSet(texts, learned, PAD).require(frozenset({Signal.LOGITS}))
    with pytest.raises(DataError, match="3 tokens, a row holds 2"):
        SequenceSet(texts, learned, PAD, row_tokens=2)
    with pytest.raises(DataError, match="no tokens"):
        SequenceSet.from_lists([[1], []], [[True], []], PAD)
    with pytest.raises(ValueError, match="first token"):
        SequenceSet(texts, np.ones(5, bool), PAD)
    with pytest.raises(ValueError, match="one row a learned token"):
        SequenceSet(texts, learned, PAD, {Signal.LOGITS: np.zeros((5, 2), np.float32)})
    with pytest.raises(ValueError, match="one truth value"):
        SequenceSet.from_lists([[1, 2]], [[True]], PAD)
