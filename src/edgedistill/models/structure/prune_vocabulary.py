"""Keep the vectors of the tokens that the task's texts use."""

from __future__ import annotations

import copy

from edgedistill.core.structural import PruneVocabularySettings
from edgedistill.models.structure.given import Given
from edgedistill.models.structure.surgery import keep_rows
from edgedistill.models.students.bert_blocks import TransformerStudent


def prune_vocabulary(
    network: TransformerStudent, settings: PruneVocabularySettings, given: Given
) -> TransformerStudent:
    """The network with the kept rows; any other token is read as its nearest kept neighbour."""
    fewer = copy.deepcopy(network)
    fewer.embedding = keep_rows(network.embedding, given.kept)
    return fewer
