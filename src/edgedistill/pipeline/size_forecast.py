"""What students would take, before any is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgedistill.core.files import read_json
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.stages.any_ground import AnyGround, Candidate
from edgedistill.pipeline.stages.ensemble import ENSEMBLE
from edgedistill.pipeline.stages.variants import forecast_share


def size_forecast(
    ground: AnyGround, members: Sequence[Candidate] = ()
) -> Callable[[Candidate], int]:
    """Bytes of model and tokenizer of a candidate, before it is exported.

    Args:
        members: of an ensemble, which is one candidate.
    """
    num_rows = len(np.unique(ground.transfer.real_ids))
    shape = read_json(ground.teacher.source / "config.json")
    fixed = len(ground.encoder.packed) + 2 * ground.encoder.num_tokens
    share = forecast_share(ground.context.spec)

    def model_bytes(candidate: Candidate) -> int:
        family = FAMILIES.load(candidate.family)
        config = family.config(**candidate.options)
        return int(share * family.size_bytes(config, num_rows, ground.num_labels, shape))

    def size_bytes(candidate: Candidate) -> int:
        parts = members if candidate.family == ENSEMBLE else [candidate]
        return sum(model_bytes(part) for part in parts) + fixed

    return size_bytes
