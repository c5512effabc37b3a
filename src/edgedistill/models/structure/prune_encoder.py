"""Remove heads and neurons of all layers together, first the least important for their size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgedistill.core.structural import PruneEncoderSettings
from edgedistill.models.structure.given import Given
from edgedistill.models.structure.importance import (
    head_site,
    importances,
    largest,
    neuron_site,
)
from edgedistill.models.structure.surgery import (
    head_size,
    keep_heads,
    keep_neurons,
    with_layers,
)
from edgedistill.models.students.bert_blocks import EncoderLayer, TransformerStudent


@dataclass(frozen=True)
class _Removable:
    """Structures of one kind in one layer: scores ``[num]``, and parameters of each."""

    scores: Tensor
    parameters: int


def prune_encoder(
    network: TransformerStudent, settings: PruneEncoderSettings, given: Given
) -> TransformerStudent:
    """The network with a share less of the parameters of its layers.

    Of each layer one head and one neuron stay at least. Only the Taylor importance of heads and of
    neurons is of one scale; by the others, scores of each kind and layer are divided by their root
    mean square (as Molchanov et al. 2017, arXiv 1611.06440, section 2.2).
    """
    layers = network.encoder_layers()
    sites = [site(layer) for layer in layers for site in (head_site, neuron_site)]
    scores = importances(network, sites, given.evidence, settings.importance)
    if settings.importance != "taylor":
        scores = [score / score.square().mean().sqrt().clamp(min=1e-30) for score in scores]
    sizes = [
        size for layer in layers for size in (head_parameters(layer), neuron_parameters(layer))
    ]
    groups = [_Removable(score, size) for score, size in zip(scores, sizes, strict=True)]
    wanted = settings.share * sum(p.numel() for layer in layers for p in layer.parameters())
    kept = _kept(groups, wanted)
    return with_layers(network, [
        keep_neurons(keep_heads(layer, kept[2 * i]), kept[2 * i + 1])
        for i, layer in enumerate(layers)
    ])  # fmt: skip


def head_parameters(layer: EncoderLayer) -> int:
    """Parameters that go with a head: rows and biases of three projections, columns of one."""
    return head_size(layer) * (3 * (layer.qkv.in_features + 1) + layer.attended.out_features)


def neuron_parameters(layer: EncoderLayer) -> int:
    """Parameters that go with a neuron: a row and a bias, and a column."""
    return layer.up.in_features + 1 + layer.down.out_features


def _kept(groups: list[_Removable], wanted: float) -> list[Tensor]:
    """Ids that stay of each group when `wanted` parameters are to go, ascending."""
    removed = [0] * len(groups)
    ranked = sorted(
        (float(score) / group.parameters, place)
        for place, group in enumerate(groups)
        for score in group.scores
    )
    for _, place in ranked:
        # What fits best: a head is not removed for the last neuron's worth.
        if wanted < groups[place].parameters / 2 or removed[place] + 1 == len(groups[place].scores):
            continue
        removed[place] += 1
        wanted -= groups[place].parameters
    return [
        largest(group.scores, len(group.scores) - num) if num else torch.arange(len(group.scores))
        for group, num in zip(groups, removed, strict=True)
    ]
