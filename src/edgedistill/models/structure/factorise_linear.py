"""Replace the matrices of the layers by products of two, where that is smaller."""

from __future__ import annotations

import copy

from torch import nn

from edgedistill.core.structural import FactoriseLinearSettings
from edgedistill.models.structure.given import Given
from edgedistill.models.structure.low_rank import LowRankLinear
from edgedistill.models.students.bert_blocks import TransformerStudent

#: The parts of a layer that are matrices.
MATRICES = ("qkv", "attended", "up", "down")


def factorise_linear(
    network: TransformerStudent, settings: FactoriseLinearSettings, given: Given
) -> TransformerStudent:
    """The network with products of the asked rank; a matrix of which the product would not be
    smaller stays as it is."""
    fewer = copy.deepcopy(network)
    for layer in fewer.encoder_layers():
        for name in MATRICES:
            linear: nn.Linear = getattr(layer, name)
            rows, columns = linear.weight.shape
            rank = max(1, round(settings.rank * min(rows, columns)))
            if rank * (rows + columns) < rows * columns:
                setattr(layer, name, LowRankLinear.of(linear, rank))
    return fewer
