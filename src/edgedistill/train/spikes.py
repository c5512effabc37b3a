"""Loss spikes: notice that a run goes astray, set it back, go on at a lower rate."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from edgedistill.core.errors import ModelError
from edgedistill.core.events import Event, Listener
from edgedistill.train.checkpoint import moving_state, put_back

#: Median absolute deviation of a normal distribution, in standard deviations.
_NORMAL = 1.4826


@dataclass(frozen=True)
class SpikeGuard:
    """When a loss is a spike, and what happens then.

    A loss is a spike where it or its gradient is not finite, or where it is the last of `in_a_row`
    losses that exceed `level + max(deviations · 1.4826 · MAD, rise · |level|, floor)`; one that
    exceeds twice the margin counts twice, and so does every one until `least` were accepted. One
    alone is a hard batch, several are a model that goes astray. (Losses of batches have long tails:
    where any two in a row told, and the floor was 0.2, a sound run of 3,500 batches was set back.)
    Level and MAD are median and median absolute deviation of the last `window` accepted losses,
    those of the lowest median so far: a slow climb would carry the present ones along. Until
    `least` losses were accepted, the level is the median of those there are and the MAD counts as
    0; the first loss is only to be finite. A spike is neither learned from nor counted: weights and
    optimizer go back to the last snapshot, and every rate is multiplied by `rate_factor` from there
    on, as long as the run lasts. A snapshot is taken after `every` updates, as soon as a loss is
    within half the margin, so it holds weights that were seen to do well; before an epoch's first
    one it is the best epoch's weights, with a fresh optimizer. After `most` rollbacks the next
    spike is an error.
    """

    window: int = 32
    least: int = 8
    deviations: float = 6.0
    rise: float = 0.5
    floor: float = 0.5
    in_a_row: int = 4
    every: int = 20
    rate_factor: float = 0.25
    most: int = 6


@dataclass(frozen=True)
class Spike:
    """One rollback: epoch and batch (from 1), the loss, what it might have been at most (infinite
    where only a loss that is not finite counted), and the share of the planned rate from then."""

    epoch: int
    batch: int
    loss: float
    limit: float
    rate: float


@dataclass(frozen=True)
class _Snapshot:
    """A state to go back to; `optimizer` by parameter number and name, empty for a fresh one."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[int, dict[str, Any]]
    losses: tuple[float, ...]


class SpikeWatch:
    """Keeps the losses and the snapshot of one run; without a guard it does nothing."""

    def __init__(
        self,
        guard: SpikeGuard | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        known = progress or {}
        self._guard, self._model, self._optimizer = guard, model, optimizer
        self._losses = deque(known.get("losses", ()), maxlen=guard.window if guard else 1)
        #: Median and MAD of the window with the lowest median.
        self._calm: tuple[float, float] | None = known.get("calm")
        self.spikes = tuple(Spike(**spike) for spike in known.get("spikes", ()))
        self._epoch, self._since, self._above = 0, math.inf, 0
        self._snapshot = _Snapshot({}, {}, ())

    @property
    def rate(self) -> float:
        """Share of the planned learning rate."""
        return self.spikes[-1].rate if self.spikes else 1.0

    def progress(self) -> dict[str, Any] | None:
        """What the next epoch depends on, for the checkpoint; None without a guard."""
        if self._guard is None:
            return None
        spikes = [asdict(spike) for spike in self.spikes]
        return {"losses": list(self._losses), "calm": self._calm, "spikes": spikes}

    def begin(self, epoch: int, best: dict[str, torch.Tensor]) -> None:
        """Start an epoch, from a state that a resumed run has too: the best weights."""
        self._epoch, self._since, self._above = epoch, math.inf, 0
        self._snapshot = _Snapshot(best, {}, tuple(self._losses))

    def rolled_back(
        self,
        terms: Mapping[str, torch.Tensor],
        norm: torch.Tensor | None,
        batch: int,
        stage: str,
        listener: Listener,
    ) -> bool:
        """Judge the loss before its update is made; True where it was a spike and undone.

        Raises:
            ModelError: the loss jumped once more than the guard allows.
        """
        if self._guard is None:
            return False
        loss = float(torch.stack(list(terms.values())).sum())
        level, margin = self._level_and_margin(self._guard)
        finite = math.isfinite(loss) and (norm is None or math.isfinite(float(norm)))
        if finite and loss <= level + margin:
            self._above = 0
            self._accept(loss, loss <= level + margin / 2, self._guard)
            return False
        self._above += 2 if self._calm is None or loss > level + 2 * margin else 1
        if finite and self._above < self._guard.in_a_row:
            return False
        self._above = 0
        rate = self.rate * self._guard.rate_factor
        told = f"the loss jumped to {loss:.4g} in epoch {self._epoch}, batch {batch}"
        if len(self.spikes) >= self._guard.most:
            raise ModelError(
                f"{told}, after {len(self.spikes)} rollbacks", where=stage,
                fix="lower the learning rate, or look at the examples of that batch",
            )  # fmt: skip
        self._restore()
        self.spikes += (Spike(self._epoch, batch, loss, level + margin, rate),)
        listener(Event(stage, "note", f"{told}: rolled back, goes on at {rate:.2g} of the rate"))
        return True

    def _level_and_margin(self, guard: SpikeGuard) -> tuple[float, float]:
        if not self._losses:
            return 0.0, math.inf
        level, deviation = self._calm or (statistics.median(self._losses), 0.0)
        return level, max(
            guard.deviations * _NORMAL * deviation, guard.rise * abs(level), guard.floor
        )

    def _accept(self, loss: float, calm: bool, guard: SpikeGuard) -> None:
        self._losses.append(loss)
        if len(self._losses) >= guard.least:
            median = statistics.median(self._losses)
            if self._calm is None or median < self._calm[0]:
                deviation = statistics.median(abs(loss - median) for loss in self._losses)
                self._calm = (median, deviation)
        self._since += 1
        if calm and self._since >= guard.every:
            # The loss is that of the weights as they are: the update has not been made yet.
            state = self._optimizer.state_dict()["state"]
            weights = {name: t.detach().clone() for name, t in moving_state(self._model).items()}
            self._snapshot = _Snapshot(weights, _cloned(state), tuple(self._losses))
            self._since = 0

    def _restore(self) -> None:
        put_back(self._model, self._snapshot.weights)
        groups = self._optimizer.state_dict()["param_groups"]
        state = {"state": _cloned(self._snapshot.optimizer), "param_groups": groups}
        self._optimizer.load_state_dict(state)
        self._optimizer.zero_grad(set_to_none=True)
        self._losses.clear()
        self._losses.extend(self._snapshot.losses)


def _cloned(state: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """The optimizer updates its tensors in place, and takes those it is given as they are."""
    return {
        number: {
            name: value.clone() if isinstance(value, torch.Tensor) else value
            for name, value in values.items()
        }
        for number, values in state.items()
    }
