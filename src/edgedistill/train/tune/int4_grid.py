"""Training for INT4: the weights of every product are read as the file will hold them.

Forward each matrix is rounded to the grid of four bits by group, backward the rounding counts as
the identity (the straight-through estimator, Bengio et al. 2013, arXiv 1308.3432). What learns are
the unrounded weights behind; scales follow from them at every step as they will for the file.
"""

from __future__ import annotations

import statistics
from typing import cast

import torch
from torch import Tensor, nn

from edgedistill.core.weight_groups import group_size
from edgedistill.train.tune.held_weights import PRODUCTS, hold

_LEAST, _LARGEST = -8, 7
#: The learning rate that serves products of so many inputs.
_RATE, _RATE_WIDTH = 1e-4, 64


def on_grid(weight: Tensor) -> Tensor:
    """Each of the weights [out, in] at the nearest step of its group; rounded twice, it stays.

    The largest of a group lies on the grid by itself, so the grid that is found of the rounded
    weights is the one they were rounded to.
    """
    out, width = weight.shape
    size = group_size(width)
    groups = nn.functional.pad(weight, (0, -width % size)).reshape(out, -1, size)
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scales = largest / _LEAST
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    steps = (groups / scales).round().clamp(_LEAST, _LARGEST)
    return (steps * scales).reshape(out, -1)[:, :width]


class _OnGrid(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        # The value is what is rounded, exactly; the gradient is the weight's.
        return on_grid(weight).detach() + (weight - weight.detach())


def hold_on_grid(model: nn.Module) -> list[str]:
    """Let every large product of `model` read its weights rounded; their names.

    Raises:
        CannotApply: there is none, or a matrix is tied to another module.
    """
    return hold(
        model, PRODUCTS, lambda _: _OnGrid(), asked_by="quantisation_aware", what_for="four bits"
    )


def fitting_rate(model: nn.Module, held: list[str]) -> float:
    """A peak learning rate for Adam, by the width of what is held on the grid.

    Adam moves every weight by about as much, so what a step adds to a product's output grows with
    the number of its inputs (Yang et al. 2022, arXiv 2203.03466): a rate that serves a narrow
    network takes a wide one farther from full precision than rounding did.

    Args:
        held: names of the products' weights, [out, in].
    """
    products = (model.get_submodule(name.rpartition(".")[0]) for name in held)
    widths = [cast(nn.Linear, product).in_features for product in products]
    return _RATE * _RATE_WIDTH / statistics.median(widths)
