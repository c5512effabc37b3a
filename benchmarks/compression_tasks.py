"""The tasks of the benchmark of compression: a fine-tuned MiniLM on CLINC150, without a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from classification_tasks import task_values, write_values

FAST, LIGHT, PRUNED, ROUNDED = "fast", "light", "pruned", "pruned-int4"
#: Share of the encoder's parameters that pruning removes: of the way that keeps most, and of the
#: one that bars ask for.
LIGHT_SHARE, SHARE = 0.4, 0.65
_PASSES = ["prune_vocabulary", {"name": "prune_encoder", "share": SHARE, "rounds": 3}]
INT4 = ("int4_tables", "group_int4")
SECTIONS: dict[str, dict[str, Any]] = {
    FAST: {"recipes": ["fast"]},
    LIGHT: {
        "passes": [
            "prune_vocabulary", {"name": "prune_encoder", "share": LIGHT_SHARE, "rounds": 2},
            "int8_tables", "dynamic_int8", "weight_int8",
        ],
    },
    PRUNED: {"passes": _PASSES},
    # The same network, trained on for four bits.
    ROUNDED: {
        "passes": _PASSES, "artefact": list(INT4), "quantisation_aware": {"num_epochs": 1},
    },
}  # fmt: skip
#: Three quarters of what a whole training reads, in shorter epochs, of fewer made texts: for small
#: students, and for a search, where the model's reading is part of the time.
FEWER_TEXTS = {"num_epochs": 6, "num_texts": 15_000, "augmentation": {"num_texts": 45_000}}
#: Of what compression must keep, by the bars of the results page.
RETENTION = {FAST: 0.993, LIGHT: 0.993, PRUNED: 0.98, ROUNDED: 0.98}


def write_task(name: str, seed: int, data: Path, work: Path, *, quick: bool) -> Path:
    """The task file of one way to compress, in `work`; texts and training are those of the quality
    bundle in the benchmark of classification."""
    values = task_values("quality", seed, data, quick=quick)
    del values["student"]
    values["name"] = f"clinc150-{name}-{seed}"
    values["compress"] = SECTIONS[name]
    # What the mean over seeds must reach, a single seed's lower bound need not.
    values["requirements"] = {"retention": RETENTION[name] - 0.01}
    return write_values(values, work)
