"""Leave out whole layers: those that change least what goes through them, or evenly spread ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from edgedistill.core.structural import DropLayersSettings
from edgedistill.models.structure.given import Evidence, Given
from edgedistill.models.structure.likeness import linear_cka, mean_cosine
from edgedistill.models.structure.surgery import num_left, with_layers
from edgedistill.models.students.bert_blocks import TransformerStudent

_LIKENESS = {"cosine": mean_cosine, "cka": linear_cka}


def drop_layers(
    network: TransformerStudent, settings: DropLayersSettings, given: Given
) -> TransformerStudent:
    """The network without a share of its layers; `network` is left as it is."""
    num = len(network.layers)
    num_kept = num_left(num, settings.share)
    if settings.by == "position":
        return keep_layers(network, spread(num, num_kept))
    while len(network.layers) > num_kept:
        # Measured anew each time: without a layer those after it see other states.
        alike = layer_likeness(network, given.evidence, settings.by)
        least = max(range(len(alike)), key=lambda layer: alike[layer])
        network = keep_layers(network, [i for i in range(len(alike)) if i != least])
    return network


def keep_layers(network: TransformerStudent, layers: Sequence[int]) -> TransformerStudent:
    """The network with these layers, in this order."""
    own = network.encoder_layers()
    return with_layers(network, [copy.deepcopy(own[layer]) for layer in layers])


def spread(num: int, num_kept: int) -> list[int]:
    """Layers that stay, evenly spread, the last among them."""
    return [round((place + 1) * num / num_kept) - 1 for place in range(num_kept)]


def layer_likeness(network: TransformerStudent, evidence: Evidence, by: str) -> list[float]:
    """How like its input the output of each layer is, over the tokens of the evidence."""
    states = layer_states(network, evidence)
    measure = _LIKENESS[by]
    return [measure(before, after) for before, after in pairwise(states)]


@torch.no_grad()
def layer_states(network: TransformerStudent, evidence: Evidence) -> list[Tensor]:
    """States of all real tokens before the first layer and after each, ``[tokens, h]``."""
    network.eval()
    found: list[list[Tensor]] = [[] for _ in range(len(network.layers) + 1)]
    real: list[Tensor] = []

    def keep(into: list[Tensor]) -> Any:
        def hook(module: Any, given: Any, states: Tensor) -> None:
            into.append(states[real[-1]])

        return hook

    modules = [network.embedding, *network.encoder_layers()]
    handles = [
        module.register_forward_hook(keep(into))
        for module, into in zip(modules, found, strict=True)
    ]
    try:
        for batch in evidence.batches():
            real.append(batch.mask.bool())
            network(batch.ids, batch.mask)
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(parts) for parts in found]
