"""Settings of the passes that change a network's structure.

What each does stands beside its arithmetic, in `models/structure`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from edgedistill.core.section import Section

Share = Annotated[float, Field(gt=0, lt=1)]
Importance: TypeAlias = Literal["taylor", "magnitude", "activation"]


class PruneVocabularySettings(Section):
    """Keep the vectors of the tokens that the task's texts use; any other token is read as its
    nearest kept neighbour."""

    name: Literal["prune_vocabulary"] = "prune_vocabulary"
    """Name of the pass."""


class DropLayersSettings(Section):
    """Leave out whole layers."""

    name: Literal["drop_layers"] = "drop_layers"
    """Name of the pass."""
    share: Share = 0.5
    """Share of the layers to leave out; at least one stays."""
    by: Literal["cosine", "cka", "position"] = "cosine"
    """Which: `cosine`, `cka`: one after the other the layer whose output is most like its input,
    by the mean cosine of a token's states or by linear CKA; `position`: evenly spread."""


class PruningSettings(Section):
    """What every pass has that removes structures by their importance."""

    share: Share = 0.5
    """Share to remove; at least one stays."""
    importance: Importance = "taylor"
    """`taylor`: squared first-order change of the loss without it; `magnitude`: norms of its
    weights; `activation`: what it passes on, by the weights that read it."""
    rounds: Annotated[int, Field(ge=1, le=20)] = 1
    """Removed in so many equal parts, with training in between."""


class PruneHiddenSettings(PruningSettings):
    """Remove channels of the states, from every matrix that reads or writes them."""

    name: Literal["prune_hidden"] = "prune_hidden"
    """Name of the pass."""


class PruneHeadsSettings(PruningSettings):
    """Remove attention heads, the same number from every layer."""

    name: Literal["prune_heads"] = "prune_heads"
    """Name of the pass."""


class PruneNeuronsSettings(PruningSettings):
    """Remove feed-forward neurons, the same number from every layer."""

    name: Literal["prune_neurons"] = "prune_neurons"
    """Name of the pass."""


class PruneEncoderSettings(PruningSettings):
    """Remove heads and neurons wherever they matter least for their parameters, until this share of
    the layers' parameters is gone."""

    name: Literal["prune_encoder"] = "prune_encoder"
    """Name of the pass."""


class FactoriseLinearSettings(Section):
    """Replace the layers' matrices by products of two, where that is smaller."""

    name: Literal["factorise_linear"] = "factorise_linear"
    """Name of the pass."""
    rank: Share = 0.33
    """Rank of the product, as a share of the matrix's own."""


class FactoriseEmbeddingsSettings(Section):
    """Replace the token table by a product of two matrices."""

    name: Literal["factorise_embeddings"] = "factorise_embeddings"
    """Name of the pass."""
    rank: Share = 0.33
    """Rank of the product, as a share of the table's own."""


AnyStructural: TypeAlias = Annotated[
    PruneVocabularySettings
    | DropLayersSettings
    | PruneHiddenSettings
    | PruneHeadsSettings
    | PruneNeuronsSettings
    | PruneEncoderSettings
    | FactoriseLinearSettings
    | FactoriseEmbeddingsSettings,
    Field(discriminator="name"),
]
StructuralName: TypeAlias = Literal[
    "prune_vocabulary",
    "drop_layers",
    "prune_hidden",
    "prune_heads",
    "prune_neurons",
    "prune_encoder",
    "factorise_linear",
    "factorise_embeddings",
]
