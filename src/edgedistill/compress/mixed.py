"""Four bits where a layer bears it, eight where it does not: measured, one layer at a time.

Each matrix alone is put into four bits and the file run through the runtime that ships; what that
changes of the answers (Kullback-Leibler divergence from full precision) is the layer's sensitivity.
Then the layers that lose least for the bytes they save go to four bits, until the file is as small
as asked. What is run are the calibration texts, not validation: that has yet to judge the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from edgedistill.compress.blocks import to_blocks, write_blocks
from edgedistill.compress.products import Factor, opened
from edgedistill.compress.refusal import require_calibration
from edgedistill.core.errors import CannotApply
from edgedistill.runtime.session import Session

#: Bits a weight that the matrices may take on average.
MEAN_BITS = 5.0
NUM_TEXTS = 64
FEW, MANY = 4, 8


class MixedInt4Int8:
    """INT4 by group for the least sensitive layers, INT8 by group for the others."""

    needs_calibration: ClassVar[bool] = True

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        require_calibration(calibration, "layer sensitivity")
        matrices = opened(artefact)[1]
        if len(matrices) == 1:
            raise CannotApply(
                "there is one layer: its precision cannot be mixed",
                fix="take group_int4 or group_int8",
            )
        texts = calibration[:: -(-len(calibration) // NUM_TEXTS)]
        few = narrow_layers(matrices, sensitivities(artefact, texts), MEAN_BITS)
        model, matrices = opened(artefact)
        for factor in matrices:
            bits = FEW if factor.name in few else MANY
            write_blocks(model, factor, to_blocks(factor.values, bits))
        onnx.save(model, to)
        return to


def sensitivities(artefact: Path, texts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """By matrix: mean divergence of the answers from full precision with it alone in four bits."""
    full = _log_answers(artefact.read_bytes(), texts)
    found = {}
    for place in range(len(opened(artefact)[1])):
        model, matrices = opened(artefact)
        factor = matrices[place]
        write_blocks(model, factor, to_blocks(factor.values, FEW))
        found[factor.name] = divergence(full, _log_answers(model.SerializeToString(), texts))
    return found


def narrow_layers(
    matrices: Sequence[Factor], sensitivity: Mapping[str, float], mean_bits: float
) -> set[str]:
    """Names of the matrices that go to four bits: the least loss a weight first, until the mean
    over all weights is at most `mean_bits`."""
    num_all = sum(factor.values.size for factor in matrices)
    few: set[str] = set()
    num_few = 0
    for factor in sorted(matrices, key=lambda f: sensitivity[f.name] / f.values.size):
        if (MANY * (num_all - num_few) + FEW * num_few) <= mean_bits * num_all:
            break
        few.add(factor.name)
        num_few += factor.values.size
    return few


def divergence(full: np.ndarray, other: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence in nats of log-probabilities [rows, answers]."""
    return float((np.exp(full) * (full - other)).sum(axis=1).mean())


def _log_answers(model: bytes, texts: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Log-probabilities of the answers, one text a call: [texts, classes], or of all tokens."""
    session = Session(model)
    rows = []
    for text in texts:
        logits, _ = session.run(text["input_ids"], text["attention_mask"])
        rows.append(logits.reshape(-1, logits.shape[-1]).astype(np.float64))
    logits = np.concatenate(rows)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
