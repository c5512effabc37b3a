"""The one training loop: every method is a Step under it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from edgedistill.core.errors import ModelError
from edgedistill.core.events import Event, Listener
from edgedistill.core.protocols import TrainingData, TrainingStep
from edgedistill.train.averaging import WeightAverage
from edgedistill.train.checkpoint import load_checkpoint, moving_state, put_back, save_checkpoint
from edgedistill.train.spikes import Spike, SpikeGuard, SpikeWatch

B = TypeVar("B")


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop. `learning_rate` is the peak: linear warm-up, then cosine to zero.

    `batch_size`: texts of a batch, or its tokens where the data counts tokens. `embedding_rate`:
    the peak for embedding tables, where it differs. `patience`: epochs without a better score
    before training stops. `accumulation`: batches whose gradients are averaged for one update.
    `spike`: what to do where the loss jumps; left out, only a loss that is not a number stops.
    `averaging`: how strongly later weights count in the running average that is scored and kept
    (`train.averaging`); left out, the last weights of an epoch are.
    """

    num_epochs: int
    learning_rate: float
    batch_size: int = 32
    patience: int = 2
    embedding_rate: float | None = None
    warmup: float = 0.06
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    precision: str = "fp32"
    seed: int = 0
    accumulation: int = 1
    spike: SpikeGuard | None = None
    averaging: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What training did: one entry of `history` an epoch; `spikes`: where it was set back."""

    best_score: float
    best_epoch: int
    history: tuple[dict[str, float], ...]
    seconds: float
    spikes: tuple[Spike, ...] = ()


def train(
    model: nn.Module,
    step: TrainingStep[B],
    data: TrainingData[B],
    *,
    score: Callable[[nn.Module], float],
    config: LoopConfig,
    checkpoints: Path,
    stage: str,
    listener: Listener,
) -> TrainingResult:
    """Train `model` in place; it ends with the weights of the best epoch.

    A run that was killed continues after its last whole epoch, bit for bit: the order of the
    batches and every random draw of an epoch follow from (seed, epoch).

    Args:
        score: higher is better, computed after every epoch, on validation data.
        checkpoints: folder for the state between epochs.

    Raises:
        ModelError: the loss is not a number; with `config.spike`, it still jumps after as many
            rollbacks as the guard allows.
    """
    data.require(step.needs)
    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config), lr=config.learning_rate, fused=True
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    bare = accelerator.unwrap_model(model)
    state, average = _State(best=_copy(bare)), WeightAverage(bare, config.averaging)
    if resumed := load_checkpoint(
        checkpoints, model=bare, optimizer=optimizer.optimizer, average=average
    ):
        state = _State(resumed[0], **resumed[1])
        listener(Event(stage, "note", f"continues after epoch {state.epoch}"))
    watch = SpikeWatch(config.spike, bare, optimizer.optimizer, state.spikes)
    while state.epoch < config.num_epochs and state.waited < config.patience:
        started = time.monotonic()
        losses = _epoch(
            model, step, data, optimizer, accelerator, config, state, watch, average, stage,
            listener,
        )  # fmt: skip
        state.spikes = watch.progress()
        with average.applied():
            value = score(bare)
            state.record(value, losses, time.monotonic() - started, bare)
        save_checkpoint(
            checkpoints, model=bare, optimizer=optimizer.optimizer, average=average,
            best=state.best, progress=state.progress(),
        )  # fmt: skip
        listener(
            Event(
                stage,
                "progress",
                f"epoch {state.epoch} of {config.num_epochs}",
                state.epoch / config.num_epochs,
                {**losses, "validation": value},
            )
        )
    put_back(bare, state.best)
    bare.eval()
    seconds = sum(entry["seconds"] for entry in state.history)
    return TrainingResult(
        state.best_score, state.best_epoch, tuple(state.history), seconds, watch.spikes
    )


class _State:
    """How far training has come."""

    def __init__(
        self,
        best: dict[str, torch.Tensor],
        epoch: int = 0,
        best_score: float = -math.inf,
        best_epoch: int = 0,
        history: list[dict[str, float]] | None = None,
        spikes: dict[str, Any] | None = None,
    ) -> None:
        self.best, self.epoch = best, epoch
        self.best_score, self.best_epoch = best_score, best_epoch
        self.history = history or []
        self.spikes = spikes

    @property
    def waited(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch

    def record(
        self, value: float, losses: dict[str, float], seconds: float, model: nn.Module
    ) -> None:
        self.epoch += 1
        if value > self.best_score:
            self.best_score, self.best_epoch, self.best = value, self.epoch, _copy(model)
        self.history.append(
            {**losses, "epoch": self.epoch, "validation": value, "seconds": seconds}
        )

    def progress(self) -> dict[str, Any]:
        guarded = {} if self.spikes is None else {"spikes": self.spikes}
        return guarded | {
            "epoch": self.epoch,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }


def _epoch(
    model: nn.Module,
    step: TrainingStep[B],
    data: TrainingData[B],
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    config: LoopConfig,
    state: _State,
    watch: SpikeWatch,
    average: WeightAverage,
    stage: str,
    listener: Listener,
) -> dict[str, float]:
    """One pass over the data; returns the mean of each loss term."""
    torch.manual_seed(config.seed * 1_000_003 + state.epoch)
    rng = torch.Generator().manual_seed(config.seed * 1_000_003 + state.epoch)
    totals: dict[str, torch.Tensor] = {}
    seen = counted = 0
    model.train()
    told = time.monotonic()
    draw = (config.batch_size, config.seed, state.epoch)
    num_batches = data.num_batches(*draw)
    watch.begin(state.epoch + 1, state.best)
    for group in _groups(data.batches(*draw, accelerator.device), config.accumulation):
        seen += len(group)
        done = (state.epoch * num_batches + seen) / (config.num_epochs * num_batches)
        for parameters in optimizer.param_groups:
            parameters["lr"] = parameters["peak"] * _schedule(done, config.warmup) * watch.rate
        terms = _gradients(model, step, group, accelerator, config, rng)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        if watch.rolled_back(terms, norm, seen, stage, listener):
            average.restart()
            continue
        if norm is not None and not torch.isfinite(norm):
            raise ModelError(
                f"the loss of epoch {state.epoch + 1}, step {seen} is not a number",
                where=stage,
                fix="lower the learning rate, or use precision fp32",
            )
        optimizer.step()
        average.update()
        optimizer.zero_grad(set_to_none=True)
        counted += len(group)
        for name, term in terms.items():
            totals[name] = totals.get(name, torch.zeros(())) + term.cpu()
        if time.monotonic() - told > 2.0:
            told = time.monotonic()
            listener(Event(stage, "progress", f"epoch {state.epoch + 1}", done))
    return {name: float(total) / counted for name, total in totals.items()}


def _groups(batches: Iterator[B], size: int) -> Iterator[list[B]]:
    """The batches of each update."""
    while group := list(islice(batches, size)):
        yield group


def _gradients(
    model: nn.Module,
    step: TrainingStep[B],
    group: list[B],
    accelerator: Accelerator,
    config: LoopConfig,
    rng: torch.Generator,
) -> dict[str, torch.Tensor]:
    """Leave the mean gradient of the group's batches; returns the sum of each loss term."""
    sums: dict[str, torch.Tensor] = {}
    bf16, kind = config.precision == "bf16", accelerator.device.type
    for batch in group:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16):
            terms = step(model, batch, rng=rng)
        loss = torch.stack(list(terms.values())).sum()
        accelerator.backward(loss if len(group) == 1 else loss / len(group))
        for name, term in terms.items():
            sums[name] = sums[name] + term.detach() if name in sums else term.detach()
    return sums


def _schedule(done: float, warmup: float) -> float:
    """Share of the peak rate after `done` of all steps."""
    if done < warmup:
        return done / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (done - warmup) / (1.0 - warmup)))


def _parameter_groups(model: nn.Module, config: LoopConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and embedding tables do not."""
    tables = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for p in module.parameters(recurse=False)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_table = id(parameter) in tables
        rate = (config.embedding_rate if is_table else None) or config.learning_rate
        decay = config.weight_decay if parameter.ndim > 1 and not is_table else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "peak": rate, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.detach().cpu().clone() for name, t in moving_state(model).items()}
