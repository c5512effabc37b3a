"""Training with weights left out: the network learns to do without what its file will not hold.

What is left out rises from nothing along a cubic to the whole of its pattern, at half of the
training, and stays there (Zhu & Gupta 2017, arXiv 1710.01878, section 3). By magnitude the smallest
weights go. By movement (Sanh et al. 2020, arXiv 2005.07683, section 4) each weight has a score that
the straight-through gradient -w · ∂L/∂(what w is read as) raises, of weights that are left out as
well: those come back that would serve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from edgedistill.core.protocols import Batch, Signal, Step
from edgedistill.core.weight_groups import KEPT_OF_RUN, RUN
from edgedistill.train.tune.held_weights import ANY_MODULE, hold

#: Share of the training in which the sparsity rises.
_RISING = 0.5


def kept(rank: Tensor, *, in_runs: bool, risen: float = 1.0) -> Tensor:
    """Which weights stay, bool of the shape of `rank`; of equal ones those in front.

    Args:
        rank: what is lowest goes first.
        in_runs: of every four neighbours, along the rows and from the end of one into the next, the
            lower two go; else the lower half of the matrix.
        risen: share of what is to go that is gone yet, lowest first.
    """
    flat = rank.detach().flatten()
    goes = _goes_of_runs(flat) if in_runs else None
    num = flat.numel() // 2 if goes is None else int(goes.sum())
    if goes is None or risen < 1.0:
        among = flat if goes is None else flat.masked_fill(~goes, torch.inf)
        goes = _lowest(among, round(risen * num))
    return ~goes.view(rank.shape)


def _goes_of_runs(flat: Tensor) -> Tensor:
    """Of every four the lower two, of equal ones those behind; the last run may be short."""
    padding = -flat.numel() % RUN
    runs = nn.functional.pad(flat, (0, padding), value=-torch.inf).view(-1, RUN)
    order = runs.argsort(dim=1, descending=True, stable=True)
    goes = torch.zeros_like(runs, dtype=torch.bool).scatter(1, order[:, KEPT_OF_RUN:], True)
    return goes.flatten()[: flat.numel()]


def _lowest(flat: Tensor, num: int) -> Tensor:
    """True at the `num` lowest; of equal ones at those behind."""
    if num == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    limit = flat.kthvalue(num).values
    lowest = flat < limit
    tied = (flat == limit).nonzero().flatten()
    lowest[tied[len(tied) - (num - int(lowest.sum())) :]] = True
    return lowest


class _Sparse(nn.Module):
    """Reads a matrix with zeros where weights are left out: of those of the moment in training,
    of the whole pattern's elsewhere, so that what is judged is what the file would hold."""

    num_steps: Tensor

    def __init__(self, weight: Tensor, *, in_runs: bool) -> None:
        super().__init__()
        self.in_runs = in_runs
        self.risen = 0.0
        # Kept with the weights, so that a training that was cut off goes on with its share.
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))

    def rank(self, weight: Tensor) -> Tensor:
        """What is lowest goes first."""
        return weight.abs()

    def mask(self, weight: Tensor) -> Tensor:
        """1 where a weight stays."""
        risen = self.risen if self.training else 1.0
        return kept(self.rank(weight), in_runs=self.in_runs, risen=risen).to(weight.dtype)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask(weight)


class _ByMovement(_Sparse):
    """Scores begin with the weights' own size, in whose unit one optimiser moves both.

    From zero, as for a task that is new, there would be nothing to tell weights apart by: a network
    that is to answer as it does has no gradient before something is left out.
    """

    def __init__(self, weight: Tensor, *, in_runs: bool) -> None:
        super().__init__(weight, in_runs=in_runs)
        self.scores = nn.Parameter(weight.detach().abs())

    def rank(self, weight: Tensor) -> Tensor:
        return self.scores

    def mask(self, weight: Tensor) -> Tensor:
        # The value is the mask, exactly; the gradient is the scores' as if each were its mask.
        return super().mask(weight) + (self.scores - self.scores.detach())


def hold_sparse(
    model: nn.Module, by: Literal["movement", "magnitude"], *, in_runs: bool
) -> list[str]:
    """Let `model` read every large matrix but look-up tables with weights left out; their names.

    Args:
        in_runs: as of `kept`.

    Raises:
        CannotApply: there is none, or a matrix is tied to another module.
    """
    form = _ByMovement if by == "movement" else _Sparse
    return hold(
        model, ANY_MODULE, lambda weight: form(weight, in_runs=in_runs),
        asked_by="sparse_training", what_for="leaving weights out of",
    )  # fmt: skip


class RisingSparsity:
    """A step under which more is left out of a model that `hold_sparse` holds.

    Args:
        step: what is learned meanwhile.
        num_steps: of the whole training.
    """

    def __init__(self, step: Step, model: nn.Module, num_steps: int) -> None:
        self.step, self.num_rising = step, max(1, round(_RISING * num_steps))
        self.held = [module for module in model.modules() if isinstance(module, _Sparse)]

    @property
    def needs(self) -> frozenset[Signal]:
        return self.step.needs

    def __call__(
        self, model: nn.Module, batch: Batch, *, rng: torch.Generator
    ) -> Mapping[str, Tensor]:
        for sparse in self.held:
            sparse.num_steps += 1
            left = max(0.0, 1.0 - int(sparse.num_steps) / self.num_rising)
            sparse.risen = 1.0 - left**3
        return self.step(model, batch, rng=rng)
