"""Plain rounding by group: INT4 or INT8 weights of products, a scale for 128 of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from edgedistill.compress.blocks import to_blocks, write_blocks
from edgedistill.compress.products import opened


class GroupInt4:
    """Four bits a weight, each rounded to the nearest step by itself."""

    needs_calibration: ClassVar[bool] = False
    bits: ClassVar[int] = 4

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model, matrices = opened(artefact)
        for factor in matrices:
            write_blocks(model, factor, to_blocks(factor.values, self.bits))
        onnx.save(model, to)
        return to


class GroupInt8(GroupInt4):
    """Eight bits a weight."""

    bits: ClassVar[int] = 8
