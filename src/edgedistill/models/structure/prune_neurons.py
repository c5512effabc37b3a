"""Remove the least important feed-forward neurons of every layer."""

from __future__ import annotations

from edgedistill.core.structural import PruneNeuronsSettings
from edgedistill.models.structure.given import Given
from edgedistill.models.structure.importance import importances, largest, neuron_site
from edgedistill.models.structure.surgery import keep_neurons, num_left, with_layers
from edgedistill.models.students.bert_blocks import TransformerStudent


def prune_neurons(
    network: TransformerStudent, settings: PruneNeuronsSettings, given: Given
) -> TransformerStudent:
    """The network with a share less of the neurons of each layer."""
    layers = network.encoder_layers()
    sites = [neuron_site(layer) for layer in layers]
    scores = importances(network, sites, given.evidence, settings.importance)
    return with_layers(network, [
        keep_neurons(layer, largest(score, num_left(len(score), settings.share)))
        for layer, score in zip(layers, scores, strict=True)
    ])  # fmt: skip
