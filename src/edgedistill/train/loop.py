"""The one training loop: every method is a Step under it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from edgedistill.core.errors import ModelError
from edgedistill.core.events import Event, Listener
from edgedistill.core.protocols import Step
from edgedistill.train.batches import TrainingSet, epoch_batches
from edgedistill.train.checkpoint import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop. `learning_rate` is the peak: linear warm-up, then cosine to zero.

    `embedding_rate`: the peak for embedding tables, where it differs. `patience`: epochs
    without a better score before training stops.
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


@dataclass(frozen=True)
class TrainingResult:
    """What training did: one entry of `history` an epoch."""

    best_score: float
    best_epoch: int
    history: tuple[dict[str, float], ...]
    seconds: float


def train(
    model: nn.Module,
    step: Step,
    data: TrainingSet,
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
        ModelError: the loss is not a number.
    """
    data.require(step.needs)
    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config), lr=config.learning_rate, fused=True
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    bare = accelerator.unwrap_model(model)
    state = _State(best=_copy(bare))
    if resumed := load_checkpoint(checkpoints, model=bare, optimizer=optimizer.optimizer):
        state = _State(resumed[0], **resumed[1])
        listener(Event(stage, "note", f"continues after epoch {state.epoch}"))
    steps_an_epoch = math.ceil(len(data) / config.batch_size)
    while state.epoch < config.num_epochs and state.waited < config.patience:
        started = time.monotonic()
        losses = _epoch(
            model, step, data, optimizer, accelerator, config, state, steps_an_epoch, stage,
            listener,
        )  # fmt: skip
        value = score(bare)
        state.record(value, losses, time.monotonic() - started, bare)
        save_checkpoint(
            checkpoints, model=bare, optimizer=optimizer.optimizer, best=state.best,
            progress=state.progress(),
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
    bare.load_state_dict(state.best)
    bare.eval()
    seconds = sum(entry["seconds"] for entry in state.history)
    return TrainingResult(state.best_score, state.best_epoch, tuple(state.history), seconds)


class _State:
    """How far training has come."""

    def __init__(
        self,
        best: dict[str, torch.Tensor],
        epoch: int = 0,
        best_score: float = -math.inf,
        best_epoch: int = 0,
        history: list[dict[str, float]] | None = None,
    ) -> None:
        self.best, self.epoch = best, epoch
        self.best_score, self.best_epoch = best_score, best_epoch
        self.history = history or []

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
        return {
            "epoch": self.epoch,
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }


def _epoch(
    model: nn.Module,
    step: Step,
    data: TrainingSet,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    config: LoopConfig,
    state: _State,
    steps_an_epoch: int,
    stage: str,
    listener: Listener,
) -> dict[str, float]:
    """One pass over the data; returns the mean of each loss term."""
    torch.manual_seed(config.seed * 1_000_003 + state.epoch)
    rng = torch.Generator().manual_seed(config.seed * 1_000_003 + state.epoch)
    device = accelerator.device
    totals: dict[str, torch.Tensor] = {}
    model.train()
    told = time.monotonic()
    batches = epoch_batches(data, config.batch_size, config.seed, state.epoch, device)
    for index, batch in enumerate(batches):
        done = (state.epoch * steps_an_epoch + index + 1) / (config.num_epochs * steps_an_epoch)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _schedule(done, config.warmup)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            terms = step(model, batch, rng=rng)
        loss = torch.stack(list(terms.values())).sum()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        if norm is not None and not torch.isfinite(norm):
            raise ModelError(
                f"the loss of epoch {state.epoch + 1}, step {index + 1} is not a number",
                where=stage,
                fix="lower the learning rate, or use precision fp32",
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for name, term in terms.items():
            totals[name] = totals.get(name, torch.zeros(())) + term.detach().cpu()
        if time.monotonic() - told > 2.0:
            told = time.monotonic()
            listener(Event(stage, "progress", f"epoch {state.epoch + 1}", done))
    return {name: float(total) / steps_an_epoch for name, total in totals.items()}


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
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
