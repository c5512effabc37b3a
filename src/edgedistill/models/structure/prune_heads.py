"""Remove the least important attention heads of every layer."""

from __future__ import annotations

from edgedistill.core.structural import PruneHeadsSettings
from edgedistill.models.structure.given import Given
from edgedistill.models.structure.importance import head_site, importances, largest
from edgedistill.models.structure.surgery import keep_heads, num_left, with_layers
from edgedistill.models.students.bert_blocks import TransformerStudent


def prune_heads(
    network: TransformerStudent, settings: PruneHeadsSettings, given: Given
) -> TransformerStudent:
    """The network with a share less of the heads of each layer."""
    layers = network.encoder_layers()
    sites = [head_site(layer) for layer in layers]
    scores = importances(network, sites, given.evidence, settings.importance)
    return with_layers(network, [
        keep_heads(layer, largest(score, num_left(layer.heads, settings.share)))
        for layer, score in zip(layers, scores, strict=True)
    ])  # fmt: skip
