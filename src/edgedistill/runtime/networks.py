"""The runtimes that a bundle's network may be written for, behind one interface.

What a file is written for, its bytes say; which runtime reads it is therefore never asked twice.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgedistill.core.catalogue import Catalogue
from edgedistill.runtime.manifest import LITERT_MODEL, MODEL

ONNXRUNTIME, LITERT = "onnxruntime", "litert"
RUNTIMES = Catalogue(
    "runtime",
    {
        ONNXRUNTIME: "edgedistill.runtime.session:Session",
        LITERT: "edgedistill.runtime.litert_session:LiteRtSession",
    },
)
#: Under which name a bundle holds a file for each.
MODEL_OF = {ONNXRUNTIME: MODEL, LITERT: LITERT_MODEL}
#: The identifier that every LiteRT file has behind its first offset.
_LITERT_MARK = b"TFL3"


class Network(Protocol):
    """An encoder's network in some runtime; safe to call from several threads."""

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits [batch, classes] (of a tagger [batch, sequence, tags]) and features [batch, dim],
        float32, of int64 [batch, sequence] inputs."""
        ...

    def run_all(
        self, input_ids: np.ndarray, attention_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same, and the logits of labels of whole texts [batch, values]; no columns where
        there are none."""
        ...


def runtime_of(model: bytes) -> str:
    """The runtime that a file is written for."""
    return LITERT if model[4:8] == _LITERT_MARK else ONNXRUNTIME


def load_network(model: bytes, *, threads: int = 1) -> Network:
    """The network of a file in the runtime that it is written for.

    Raises:
        BundleError: that runtime cannot run it. MissingExtra: that runtime is not installed.
    """
    network: Network = RUNTIMES.load(runtime_of(model))(model, threads=threads)
    return network
