"""AWQ: inputs that are large on average get finer steps (Lin et al. 2024, MLSys, section 3).

W is stored as the rounding of s·W and the input is divided by s, so that the rounding errors of
inputs that matter shrink by their s. s = mean|x|^α; α is searched a layer for the least error of
the layer's output on the calibration texts. At α = 0 it is plain rounding, and the clipping of
steps that follows (`clipping.py`) only lessens that error, so it is never worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill.compress.blocks import Blocks, to_blocks, write_blocks
from edgedistill.compress.clipping import clipped
from edgedistill.compress.folding import fold
from edgedistill.compress.products import Factor, Seen, opened, seen_inputs
from edgedistill.compress.refusal import require_calibration

NUM_STEPS = 20
BITS = 4


class AwqInt4:
    """INT4 by group, with inputs scaled by how large they are."""

    needs_calibration: ClassVar[bool] = True

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        require_calibration(calibration, "activation-aware scaling")
        model, matrices = opened(artefact)
        seen = seen_inputs(model, matrices, calibration)
        for factor in matrices:
            scales, blocks = searched(factor.values, seen[factor.name])
            if (scales != 1).any():
                _divide_inputs(model.graph, factor, scales)
            write_blocks(model, factor, blocks)
        onnx.save(model, to)
        return to


def searched(values: np.ndarray, seen: Seen, bits: int = BITS) -> tuple[np.ndarray, Blocks]:
    """(s float32 [in], blocks of s·W) of the α with the least output error, of NUM_STEPS in [0, 1);
    then the steps of the blocks are clipped.

    Args:
        values: float32 [in, out].
    """
    best = None
    for step in range(NUM_STEPS):
        scales = scales_at(seen.mean_abs, step / NUM_STEPS)
        blocks = to_blocks(values * scales[:, None], bits)
        error = seen.output_error(blocks.values / scales[:, None] - values).sum()
        if best is None or error < best[0]:
            best = (error, scales, blocks)
    assert best is not None
    _, scales, blocks = best
    gram = seen.gram / np.outer(scales, scales)
    return scales, clipped(values * scales[:, None], blocks, gram)


def scales_at(mean_abs: np.ndarray, power: float) -> np.ndarray:
    """mean|x|^power, normed so that its largest and smallest are inverse; float32 [in].

    An input that is never anything but 0 counts as the smallest that is something.
    """
    if power == 0 or not mean_abs.any():
        return np.ones(len(mean_abs), np.float32)
    least = mean_abs[mean_abs > 0].min()
    scales = np.maximum(mean_abs, max(least, 1e-4 * mean_abs.max())) ** power
    return np.asarray(scales / np.sqrt(scales.max() * scales.min()), np.float32)


def _divide_inputs(graph: onnx.GraphProto, factor: Factor, scales: np.ndarray) -> None:
    """Multiply with 1/s in front of every product of the matrix, or in what stands there anyway."""
    if fold(graph, factor.nodes, 1 / scales):
        return
    inverse = f"{factor.name}/inverse"
    graph.initializer.append(numpy_helper.from_array((1 / scales).astype(np.float32), inverse))
    for node in factor.nodes:
        divided = f"{node.output[0]}/divided"
        place = list(graph.node).index(node)
        graph.node.insert(place, onnx.helper.make_node("Mul", [node.input[0], inverse], [divided]))
        node.input[0] = divided
