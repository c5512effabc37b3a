"""Files of one task, timed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.pipeline.stages.any_ground import AnyGround
from edgedistill.runtime.measuring import alternate_ms
from edgedistill.runtime.networks import Network, load_network


def alternate_files(
    ground: AnyGround, files: Sequence[Path], *, num_texts: int, rounds: int = 2
) -> list[np.ndarray]:
    """Milliseconds a text of each file, tokenization included, in turn (see `alternate_ms`), on the
    first validation texts and as many threads as the task requires."""
    encoder, threads = ground.encoder, ground.context.spec.requirements.threads

    def caller(session: Network) -> Any:
        def call(text: str) -> None:
            ids = np.array([encoder.ids(text)], np.int64)
            session.run_all(ids, np.ones_like(ids))

        return call

    sessions = [load_network(file.read_bytes(), threads=threads) for file in files]
    texts = ground.validation_texts[:num_texts]
    return alternate_ms([caller(session) for session in sessions], texts, rounds=rounds)
