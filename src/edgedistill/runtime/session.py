"""The model in ONNX Runtime, set up for short single-threaded calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from edgedistill.core.errors import BundleError
from edgedistill.runtime.providers import CPU, providers_of, require_taken

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ["logits", "features"]
#: What a tagger that labels whole texts gives beside them.
LABEL_LOGITS = "label_logits"
_SEVERITY_ERROR = 3


def session_options(threads: int) -> Any:
    """How ONNX Runtime runs here: `threads` inside an operator, one operator at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SEVERITY_ERROR
    # Waiting threads that spin take the core from the rest of a small device.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class Session:
    """A classifier's network: int64 ids and mask in, float32 logits and features out.

    Safe to call from several threads. Built from bytes, not from a path, so that what runs is
    what was hashed and a model cannot pull further files in by reference.

    Args:
        model: the ONNX file.
        threads: threads inside an operator; there is one between operators.
        provider: what computes it, a key of `PROVIDERS`.

    Raises:
        BundleError: not an ONNX model that this runtime can run, or of other inputs and outputs.
        SpecError: a provider that is not there.
    """

    def __init__(self, model: bytes, *, threads: int = 1, provider: str = CPU) -> None:
        providers = providers_of(provider)
        try:
            self._session = onnxruntime.InferenceSession(
                model, session_options(threads), providers=providers
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no base but this one
            raise BundleError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {error}",
                where="model.onnx",
                fix="export it again, or install a newer onnxruntime",
            ) from error
        require_taken(self._session, provider)
        self._require_contract()
        self._run: Any = self._session.run
        given = {value.name for value in self._session.get_outputs()}
        self._all_outputs = [*OUTPUTS, LABEL_LOGITS] if LABEL_LOGITS in given else OUTPUTS

    def _require_contract(self) -> None:
        inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name for value in self._session.get_outputs()}
        if inputs != set(INPUTS) or not outputs.issuperset(OUTPUTS):
            raise BundleError(
                f"the model takes {sorted(inputs)} and gives {sorted(outputs)}",
                where="model.onnx",
                fix="a classifier takes input_ids, attention_mask and gives logits, features",
            )

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits [batch, classes] and features [batch, dim] of int64 [batch, sequence] inputs."""
        logits, features = self._run(
            OUTPUTS, {"input_ids": input_ids, "attention_mask": attention_mask}
        )
        return logits, features

    def run_all(
        self, input_ids: np.ndarray, attention_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same, and in the same pass what a tagger says of the labels of whole texts, float32
        [batch, values]; no columns where it has none."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        logits, features, *labels = self._run(self._all_outputs, inputs)
        return logits, features, labels[0] if labels else features[:, :0]
