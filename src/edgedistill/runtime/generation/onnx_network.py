"""A language model's graph in ONNX Runtime: ids and what was read before in, log-odds out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from edgedistill.core.errors import BundleError
from edgedistill.runtime.session import session_options

#: Tokens of a prompt that are read at once: attention needs memory for each against all before.
CHUNK = 512

Cache = list[np.ndarray]
"""Keys and values of what was read, float32 [batch, heads, length, width], two a layer."""


class OnnxNetwork:
    """Runs the file that `export.onnx_language` writes. Keeps nothing between calls.

    Attributes: `vocab_size`: ids; `context`: tokens that the model was made for; `end_ids`: ids
    that end an answer.

    Args:
        model: the file. Bytes, so that what runs is what was hashed and no further file is read.
        threads: threads inside an operator.

    Raises:
        BundleError: not a language model that this runtime can run, or one that gives log-odds
            that are no numbers.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        try:
            self._session = onnxruntime.InferenceSession(
                model, session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no base but this one
            raise _unusable(
                f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {error}"
            ) from error
        self._run: Any = self._session.run
        self._outputs = [value.name for value in self._session.get_outputs()]
        self._pasts = [name.replace("present", "past") for name in self._outputs[1:]]
        self._read_interface()
        logits, _ = self.read(np.zeros((1, 1), np.int64), self.empty())
        if not np.isfinite(logits).all():
            raise _unusable("the model gives log-odds that are no numbers")

    def _read_interface(self) -> None:
        metadata = self._session.get_modelmeta().custom_metadata_map
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        expected = {"input_ids", "positions", *self._pasts}
        if metadata.get("architecture") != "llama" or set(inputs) != expected or not self._pasts:
            raise _unusable(f"the model takes {sorted(inputs)[:4]}")
        try:
            self.context = int(metadata["context"])
            self.end_ids = tuple(int(i) for i in json.loads(metadata["end_ids"]))
            self.vocab_size = int(self._session.get_outputs()[0].shape[2])
            self._cache_shape = tuple(int(inputs[self._pasts[0]][axis]) for axis in (1, 3))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise _unusable(f"its metadata are malformed: {error!r}") from error
        if any(not 0 <= i < self.vocab_size for i in self.end_ids):
            raise _unusable("its end tokens are not in its vocabulary")

    def empty(self) -> Cache:
        """The cache of one text of which nothing was read yet."""
        heads, width = self._cache_shape
        return [np.zeros((1, heads, 0, width), np.float32) for _ in self._pasts]

    def read(
        self, ids: np.ndarray, cache: Cache, *, every: bool = False
    ) -> tuple[np.ndarray, Cache]:
        """Read on.

        Args:
            ids: int64 [batch, sequence]; each row follows its row of the cache.
            every: give the log-odds after every token, not after the last alone.

        Returns:
            Log-odds float32 [batch, sequence or 1, vocabulary], and the longer cache.
        """
        last = ids.shape[1] - 1
        positions = np.arange(0 if every else last, last + 1)
        fed = dict(zip(self._pasts, cache, strict=True))
        logits, *grown = self._run(self._outputs, {"input_ids": ids, "positions": positions, **fed})
        return logits, grown

    def read_prompt(self, ids: Sequence[int]) -> tuple[np.ndarray, Cache]:
        """Read a whole prompt; log-odds [vocabulary] after its last token, and the cache."""
        whole, cache = np.array([list(ids)], np.int64), self.empty()
        for start in range(0, whole.shape[1], CHUNK):
            logits, cache = self.read(whole[:, start : start + CHUNK], cache)
        return logits[0, -1], cache


def _unusable(why: str) -> BundleError:
    return BundleError(
        why, where="model.onnx", fix="make the bundle again, or install a newer onnxruntime"
    )
