"""The catalogue of passes on networks."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue

STRUCTURAL_PASSES = Catalogue(
    "structural pass",
    {
        "prune_vocabulary": "edgedistill.models.structure.prune_vocabulary:prune_vocabulary",
        "drop_layers": "edgedistill.models.structure.drop_layers:drop_layers",
        "prune_hidden": "edgedistill.models.structure.prune_hidden:prune_hidden",
        "prune_heads": "edgedistill.models.structure.prune_heads:prune_heads",
        "prune_neurons": "edgedistill.models.structure.prune_neurons:prune_neurons",
        "prune_encoder": "edgedistill.models.structure.prune_encoder:prune_encoder",
        "factorise_linear": "edgedistill.models.structure.factorise_linear:factorise_linear",
        "factorise_embeddings": (
            "edgedistill.models.structure.factorise_embeddings:factorise_embeddings"
        ),
    },
)
