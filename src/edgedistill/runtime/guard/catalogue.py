"""The out-of-bounds scores by name."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue

SCORES = Catalogue(
    "out-of-bounds score",
    {
        "energy": "edgedistill.runtime.guard.energy:Energy",
        "max_logit": "edgedistill.runtime.guard.max_logit:MaxLogit",
        "max_probability": "edgedistill.runtime.guard.max_probability:MaxProbability",
        "feature_distance": "edgedistill.runtime.guard.feature_distance:FeatureDistance",
        "trained": "edgedistill.runtime.guard.trained:Trained",
    },
)
