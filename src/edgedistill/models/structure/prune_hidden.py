"""Remove the least important channels of the states from everything that reads or writes them."""

from __future__ import annotations

from torch import Tensor

from edgedistill.core.structural import PruneHiddenSettings
from edgedistill.models.structure.given import Given
from edgedistill.models.structure.importance import channel_site, importances, largest
from edgedistill.models.structure.surgery import (
    keep_embedding_channels,
    keep_layer_channels,
    num_left,
    taken,
    with_layers,
)
from edgedistill.models.students.bert_blocks import TransformerStudent


def prune_hidden(
    network: TransformerStudent, settings: PruneHiddenSettings, given: Given
) -> TransformerStudent:
    """The network with a share less of its channels."""
    site = channel_site(network)
    (scores,) = importances(network, [site], given.evidence, settings.importance)
    return keep_channels(network, largest(scores, num_left(len(scores), settings.share)))


def keep_channels(network: TransformerStudent, channels: Tensor) -> TransformerStudent:
    """The network on some channels. Layer norms take mean and deviation of these alone: it is the
    network with the others masked everywhere, before the norms too."""
    layers = [keep_layer_channels(layer, channels) for layer in network.encoder_layers()]
    fewer = with_layers(network, layers)
    fewer.embedding = keep_embedding_channels(network.embedding, channels)
    for name, reader in network.reading_layers().items():
        setattr(fewer, name, taken(reader, columns=channels))
    return fewer
