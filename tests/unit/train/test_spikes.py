"""A run that goes astray is set back, says so, and ends where a sane one would."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from edgedistill.core.errors import ModelError
from edgedistill.core.events import Event, silent
from edgedistill.train.loop import LoopConfig, TrainingResult, train
from edgedistill.train.sequences import SequenceSet
from edgedistill.train.spikes import Spike, SpikeGuard, SpikeWatch
from edgedistill.train.tune.next_token import NextToken, mean_loss

SANE_RATE = 1e-2


def counting(num: int = 160) -> SequenceSet:
    """Sequences that count up by one or two, round and round: easy to learn."""
    rng = np.random.default_rng(0)
    rows = [
        ((rng.integers(16) + rng.integers(1, 3) * np.arange(rng.integers(6, 14))) % 16 + 1).tolist()
        for _ in range(num)
    ]
    return SequenceSet.from_lists(rows, [[True] * len(row) for row in rows], 0)


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=17, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
        attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def run(
    folder: Path, rate: float, guard: SpikeGuard | None, *, killed_after: int | None = None,
    notes: list[str] | None = None, epochs: int = 6, accumulation: int = 1,
) -> tuple[nn.Module, TrainingResult]:  # fmt: skip
    model, data, done = small_model(), counting(), 0

    def listener(event: Event) -> None:
        nonlocal done
        if event.kind == "note" and notes is not None:
            notes.append(event.message)
        if event.metrics:
            done += 1
            if done == killed_after:
                raise KeyboardInterrupt

    result = train(
        model, NextToken(), data, score=lambda m: -mean_loss(m, data),
        config=LoopConfig(
            epochs, rate, batch_size=100, patience=99, spike=guard, accumulation=accumulation
        ),
        checkpoints=folder, stage="test", listener=listener,
    )  # fmt: skip
    return model, result


def test_a_rate_a_hundred_times_too_high_recovers(tmp_path: Path) -> None:
    _, sane = run(tmp_path / "sane", SANE_RATE, SpikeGuard())
    assert sane.spikes == ()
    _, astray = run(tmp_path / "astray", 100 * SANE_RATE, None)
    notes: list[str] = []
    model, result = run(tmp_path / "guarded", 100 * SANE_RATE, SpikeGuard(), notes=notes)
    assert result.spikes
    assert len(notes) == len(result.spikes)
    assert all("rolled back" in note for note in notes)
    assert all(spike.loss > spike.limit for spike in result.spikes if math.isfinite(spike.loss))
    assert [spike.rate for spike in result.spikes] == [
        0.25 ** (i + 1) for i in range(len(result.spikes))
    ]
    assert -sane.best_score < 0.5
    assert -result.best_score < 0.8 < 1.2 < -astray.best_score
    assert -mean_loss(model, counting()) == pytest.approx(result.best_score, rel=1e-6)


def test_a_guarded_run_that_was_killed_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, all_at_once = run(tmp_path / "whole", 100 * SANE_RATE, SpikeGuard())
    for killed_after in (1, 3):
        folder = tmp_path / f"cut{killed_after}"
        with pytest.raises(KeyboardInterrupt):
            run(folder, 100 * SANE_RATE, SpikeGuard(), killed_after=killed_after)
        resumed, result = run(folder, 100 * SANE_RATE, SpikeGuard())
        assert result.spikes == all_at_once.spikes
        for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(one, other)


def test_a_guard_that_finds_nothing_changes_nothing(tmp_path: Path) -> None:
    guarded, _ = run(tmp_path / "guarded", SANE_RATE, SpikeGuard(), epochs=2)
    bare, _ = run(tmp_path / "bare", SANE_RATE, None, epochs=2)
    for one, other in zip(guarded.parameters(), bare.parameters(), strict=True):
        assert torch.equal(one, other)


class Slope(nn.Module):
    """One parameter, whose loss the step below makes what it wants."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


def watched(losses: list[float], guard: SpikeGuard) -> tuple[list[bool], SpikeWatch, Slope]:
    """Which of the losses, on weights that grow by one a step, were undone."""
    model = Slope()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
    watch = SpikeWatch(guard, model, optimizer)
    watch.begin(1, {"weight": torch.zeros(1)})
    undone = []
    for batch, loss in enumerate(losses, start=1):
        terms = {"loss": torch.tensor(loss)}
        undone.append(watch.rolled_back(terms, torch.tensor(1.0), batch, "test", silent))
        if not undone[-1]:
            with torch.no_grad():
                model.weight += 1
    return undone, watch, model


def test_the_rule_by_hand() -> None:
    guard = SpikeGuard(window=4, least=4, deviations=2.0, rise=0.25, floor=0.2, every=2, in_a_row=1)
    # Median 1.1, MAD 0.1: margin max(2 · 1.4826 · 0.1, 0.25 · 1.1) = 0.29652, so 1.39652 at most.
    calm = [1.0, 1.2, 1.0, 1.2]
    undone, watch, _ = watched([*calm, 1.396], guard)
    assert not any(undone)
    undone, watch, model = watched([*calm, 1.397], guard)
    assert undone == [False] * 4 + [True]
    assert watch.spikes == (Spike(1, 5, pytest.approx(1.397), pytest.approx(1.39652), 0.25),)
    # Snapshots at the first and the third loss, before their updates: the weight was 3 then.
    assert model.weight.item() == 3.0
    assert watch.progress()["losses"] == pytest.approx([1.0, 1.2, 1.0])


def test_what_is_not_finite_is_a_spike_from_the_first_loss_on() -> None:
    undone, watch, model = watched([math.nan, 1.0, math.inf], SpikeGuard())
    assert undone == [True, False, True]
    assert [spike.rate for spike in watch.spikes] == [0.25, 0.0625]
    assert model.weight.item() == 0.0


def test_a_slow_climb_is_noticed_too() -> None:
    losses = [1.0 + 0.01 * (i % 3) for i in range(40)] + [1.0 + 0.02 * i for i in range(60)]
    undone, _, _ = watched(losses, SpikeGuard(most=99))
    assert undone.index(True) < 70
    assert not any(watched([0.0, 0.0, 0.1, 0.15, 0.1, 0.05] * 20, SpikeGuard())[0])
    falling = [5.0 * math.exp(-i / 40) + 0.3 * (i % 4) for i in range(300)]
    assert not any(watched(falling, SpikeGuard())[0])


def test_a_first_jump_is_noticed_before_there_is_a_window() -> None:
    undone, watch, _ = watched([2.9, 3.1, 6.6, 3.0], SpikeGuard(in_a_row=1))
    assert undone == [False, False, True, False]
    assert watch.spikes[0].limit == pytest.approx(1.5 * 3.0)


def test_too_many_spikes_are_an_error() -> None:
    with pytest.raises(ModelError, match="after 2 rollbacks"):
        watched([math.nan] * 3, SpikeGuard(most=2))


def test_accumulated_gradients_are_the_mean_of_the_batches(tmp_path: Path) -> None:
    class Recorder:
        needs = NextToken.needs

        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, model, batch, *, rng):  # type: ignore[no-untyped-def]
            self.calls += 1
            return NextToken()(model, batch, rng=rng)

    data = counting(60)
    num = data.num_batches(100, 0, 0)
    assert num % 4 != 0, "the last update is to have fewer batches"
    updates: list[None] = []
    step, model = Recorder(), small_model()
    original = torch.optim.AdamW.step
    first: list[torch.Tensor] = []

    def counted(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        if not updates:
            first.append(model.model.norm.weight.grad.clone())
        updates.append(None)
        return original(self, *args, **kwargs)

    expected = small_model()
    for batch, _ in zip(data.batches(100, 0, 0, torch.device("cpu")), range(4), strict=False):
        (NextToken()(expected, batch, rng=torch.Generator())["next_token"] / 4).backward()
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", counted)
        result = train(
            model, step, data, score=lambda _: 0.0,
            config=LoopConfig(1, 1e-3, batch_size=100, accumulation=4, max_grad_norm=1e9),
            checkpoints=tmp_path, stage="test", listener=silent,
        )  # fmt: skip
    assert step.calls == num
    assert len(updates) == math.ceil(num / 4)
    torch.testing.assert_close(first[0], expected.model.norm.weight.grad, rtol=1e-5, atol=1e-7)
    assert 1.0 < result.history[0]["next_token"] < 4.0


def test_hard_batches_are_no_spike_and_several_in_a_row_are() -> None:
    calm = [1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 1.0, 1.1]
    # Level 1.05, margin 0.525: 1.9 is above it once, 3 twice.
    undone, _, _ = watched([*calm, 1.9, 1.8, 1.9, 1.0, 3.0, 1.0, 1.9, 3.0, 1.0], SpikeGuard())
    assert not any(undone)
    undone, watch, _ = watched([*calm, 1.9, 1.8, 1.9, 2.0, 1.0], SpikeGuard())
    assert undone == [False] * 11 + [True, False]
    assert watch.spikes[0].loss == pytest.approx(2.0)
    assert watched([*calm, 3.0, 3.1], SpikeGuard())[0][-2:] == [False, True]
    undone, _, _ = watched([*calm, math.nan], SpikeGuard())
    assert undone[-1]


@pytest.mark.parametrize("seed", range(4))
def test_losses_with_a_long_tail_are_let_be(seed: int) -> None:
    """As a small model's are late in training: most near 0.15, one in thirty above 0.5."""
    losses = 0.15 * np.random.default_rng(seed).lognormal(0.0, 0.65, 4000)
    assert (losses > 0.35).mean() > 0.05
    assert not any(watched(losses.tolist(), SpikeGuard())[0])
