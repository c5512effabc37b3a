"""GPTQ: what rounding one input's weights loses, the weights of later inputs make good.

After Frantar et al. 2023 (ICLR), algorithm 1: with H the second moments of the inputs and U the
upper Cholesky factor of H⁻¹, column i is rounded and its error spread over those behind it by
U[i, i:] / U[i, i].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from edgedistill.compress.blocks import (
    Blocks,
    codes_of,
    scales_of,
    to_blocks,
    write_blocks,
)
from edgedistill.compress.products import Seen, opened, seen_inputs
from edgedistill.compress.refusal import require_calibration
from edgedistill.core.weight_groups import group_size

BITS = 4
#: Share of the mean second moment that is added to all, so that H can be inverted.
DAMPING = 0.01


class GptqInt4:
    """INT4 by group, with errors compensated; an output that plain rounding serves better keeps
    plain rounding, so no layer is worse than it on the calibration texts."""

    needs_calibration: ClassVar[bool] = True

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        require_calibration(calibration, "compensated rounding")
        model, matrices = opened(artefact)
        seen = seen_inputs(model, matrices, calibration)
        for factor in matrices:
            write_blocks(model, factor, compensated(factor.values, seen[factor.name]))
        onnx.save(model, to)
        return to


def compensated(values: np.ndarray, seen: Seen, bits: int = BITS) -> Blocks:
    """The better of GPTQ and plain rounding, for each output; values float32 [in, out]."""
    plain, spread = to_blocks(values, bits), spread_errors(values, seen.gram, bits)
    worse = seen.output_error(spread.values - values) > seen.output_error(plain.values - values)
    return replace(
        spread,
        codes=np.where(worse[:, None, None], plain.codes, spread.codes),
        scales=np.where(worse[:, None], plain.scales, spread.scales),
    )


def spread_errors(values: np.ndarray, gram: np.ndarray, bits: int) -> Blocks:
    """GPTQ itself, group after group; a group's scale is that of its weights as they then stand."""
    width, num_out = values.shape
    size = group_size(width)
    upper = _upper_factor(gram)
    weights = values.T.astype(np.float64)
    num_groups = -(-width // size)
    codes = np.full((num_out, num_groups, size), 2 ** (bits - 1), np.uint8)
    scales = np.ones((num_out, num_groups), np.float32)
    for group in range(num_groups):
        start, stop = group * size, min((group + 1) * size, width)
        scales[:, group] = scales_of(weights[:, start:stop], bits)
        errors = np.zeros((num_out, stop - start))
        for i in range(start, stop):
            column = weights[:, i]
            code = codes_of(column, scales[:, group], bits)
            codes[:, group, i - start] = code
            rounded = (code.astype(np.float64) - 2 ** (bits - 1)) * scales[:, group]
            errors[:, i - start] = (column - rounded) / upper[i, i]
            weights[:, i + 1 : stop] -= np.outer(errors[:, i - start], upper[i, i + 1 : stop])
        weights[:, stop:] -= errors @ upper[start:stop, stop:]
    return Blocks(codes, scales, bits, width)


def _upper_factor(gram: np.ndarray) -> np.ndarray:
    """U with UᵀU the inverse of the damped second moments."""
    damped = gram.copy()
    diagonal = np.einsum("ii->i", damped)
    # An input that was never seen is rounded plainly.
    diagonal[diagonal == 0] = 1.0
    diagonal += DAMPING * diagonal.mean()
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)
