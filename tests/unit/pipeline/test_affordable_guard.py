"""Which guard fits the latency asked for: scores are timed behind the network."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from edgedistill.core.task import TaskSpec
from edgedistill.evaluate.guard_arrays import Outputs
from edgedistill.evaluate.guard_fit import GuardRows
from edgedistill.pipeline.evidence import affordable_guard
from edgedistill.pipeline.stages.variants import Variant
from edgedistill.runtime.session import Session

CLASSES, DIM = 4, 384
#: Milliseconds of the network without a score.
P95_MS = 1.0


class Network:
    """A network that takes no time, and counts."""

    calls = 0

    def run(self, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert ids.shape == mask.shape == (1, 5)
        assert ids.dtype == np.int64
        self.calls += 1
        return np.zeros((1, CLASSES)), np.zeros((1, DIM))


def _rows() -> GuardRows:
    """Texts whose distance from all classes only their features show."""
    rng = np.random.default_rng(0)
    targets = np.arange(400) % CLASSES
    centres = 3 * rng.normal(size=(CLASSES, DIM))
    features = centres[targets] + rng.normal(size=(400, DIM))
    far = rng.normal(size=(100, DIM)) * 3
    logits = rng.normal(size=(500, CLASSES)).astype(np.float32)
    inside = Outputs(logits[:400], features.astype(np.float32))
    outside = Outputs(logits[400:], far.astype(np.float32))
    return GuardRows(inside, targets, inside, targets, out_of_bounds_validation=outside)


def _fit(limit_ms: float | None, network: Network) -> Any:
    spec = TaskSpec.model_validate({
        "name": "x", "data": {"files": {"train": "t.jsonl"}}, "teacher": {"source": "folder:t"},
        "requirements": {"latency_p95_ms": limit_ms},
    })  # fmt: skip
    ids = [np.arange(5, dtype=np.int32)] * 20
    variant = Variant((), 1000, 1.0, 1.0, P95_MS / 2, P95_MS)
    return affordable_guard(_rows(), spec, variant, cast(Session, network), ids)


@pytest.mark.parametrize("limit_ms", [None, 1000.0])
def test_a_score_with_matrices_is_taken_where_there_is_time_for_it(limit_ms: float | None) -> None:
    fitted = _fit(limit_ms, Network())
    assert fitted.array_bytes > 0
    assert "would add" not in fitted.reason


def test_a_score_that_takes_too_long_behind_the_network_gives_way_and_says_so() -> None:
    network = Network()
    fitted = _fit(P95_MS, network)
    assert fitted.array_bytes == 0
    assert "would add" in fitted.reason
    assert "over the latency asked for" in fitted.reason
    assert network.calls > 0
