"""The model in LiteRT: a signature for each of some lengths, shorter texts are padded to the next.

LiteRT plans its memory for fixed shapes. A file therefore holds the network once and one way to run
it for each length; what is padded is masked, and every token's activations have their own scale, so
that padding changes an answer by rounding alone.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from edgedistill.core.errors import BundleError, MissingExtra
from edgedistill.runtime.session import LABEL_LOGITS, OUTPUTS

#: Names of signatures: this, and the number of tokens.
SIGNATURE = "tokens_"
_FILE = "model.tflite"


class LiteRtSession:
    """A network in LiteRT, with what `runtime.networks.Network` promises.

    Calls are made one after another: an interpreter has one memory.

    Args:
        model: the LiteRT file. threads: threads inside an operator.

    Raises:
        BundleError: not a file that LiteRT can run, or of other signatures.
        MissingExtra: LiteRT is not installed.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtra("a bundle for LiteRT", "litert") from error
        try:
            self._interpreter = Interpreter(model_content=model, num_threads=threads)
            given: dict[str, Any] = self._interpreter.get_signature_list()
            self._runners = {
                int(name.removeprefix(SIGNATURE)): self._interpreter.get_signature_runner(name)
                for name in given
            }
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"LiteRT cannot load the model: {error}",
                where=_FILE,
                fix="export it again, or install a newer ai-edge-litert",
            ) from error
        self._require_contract(given)
        self.lengths = tuple(sorted(self._runners))
        self._has_labels = LABEL_LOGITS in next(iter(given.values()))["outputs"]
        self._inputs = {n: np.zeros((2, 1, n), dtype=np.int32) for n in self.lengths}
        self._lock = Lock()

    def _require_contract(self, given: dict[str, Any]) -> None:
        wanted = {"input_ids", "attention_mask"}
        fits = given and all(
            set(each["inputs"]) == wanted and set(OUTPUTS) <= set(each["outputs"])
            for each in given.values()
        )
        if not fits:
            raise BundleError(
                f"the model has other signatures: {sorted(given)}",
                where=_FILE,
                fix="each takes input_ids, attention_mask and gives logits, features",
            )

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits [batch, classes] or [batch, sequence, tags], and features [batch, dim]."""
        logits, features, _ = self.run_all(input_ids, attention_mask)
        return logits, features

    def run_all(
        self, input_ids: np.ndarray, attention_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same, and the logits of labels of whole texts; no columns where there are none."""
        rows = [self._run_one(*row) for row in zip(input_ids, attention_mask, strict=True)]
        if len(rows) == 1:
            return rows[0]
        logits, features, labels = (np.concatenate(part) for part in zip(*rows, strict=True))
        return logits, features, labels

    def _run_one(
        self, ids: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num = len(ids)
        length = next((n for n in self.lengths if n >= num), None)
        if length is None:
            raise BundleError(
                f"a text of {num} tokens is longer than the {self.lengths[-1]} that the model reads"
            )
        with self._lock:
            filled = self._inputs[length]
            filled[0, 0, :num], filled[1, 0, :num] = ids, mask
            filled[:, 0, num:] = 0
            found = self._runners[length](input_ids=filled[0], attention_mask=filled[1])
        logits, features = found["logits"], found["features"]
        # Of a tagger, the tags of what was padded.
        logits = logits[:, :num] if logits.ndim == 3 else logits
        return logits, features, found[LABEL_LOGITS] if self._has_labels else features[:, :0]
