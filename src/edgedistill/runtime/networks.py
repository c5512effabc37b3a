"""The runtimes that a bundle's network may be written for, behind one interface.

What a file is written for, its bytes say; which runtime reads it is therefore never asked twice.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import SpecError
from edgedistill.runtime.manifest import LITERT_MODEL, MODEL
from edgedistill.runtime.providers import CPU

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


def load_network(model: bytes, *, threads: int = 1, provider: str = CPU) -> Network:
    """The network of a file in the runtime that it is written for.

    Args:
        provider: what computes it, where that runtime is ONNX Runtime (`runtime/providers.py`).

    Raises:
        BundleError: that runtime cannot run it. MissingExtra: that runtime is not installed.
        SpecError: a provider that is not there, or of another runtime.
    """
    runtime = runtime_of(model)
    given = {} if provider == CPU else {"provider": provider}
    if given and runtime != ONNXRUNTIME:
        raise SpecError(
            f"the provider {provider!r} of a file for {runtime}", where="provider",
            fix="leave it out: it is ONNX Runtime's, for bundles with a model.onnx",
        )  # fmt: skip
    network: Network = RUNTIMES.load(runtime)(model, threads=threads, **given)
    return network
