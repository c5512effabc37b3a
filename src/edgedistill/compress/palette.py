"""Weights shared among the colours of a palette: k-means of each matrix's values.

A matrix becomes a palette of FP32 colours and an index a weight: 4 bits of 16 colours, 8 of 256.
The colours lie where the weights are dense, where even steps would waste codes on gaps. Tables of
rows are looked up by index and coloured row by row; matrices are coloured once at loading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill.compress.expansion import Expansion, plain_matrices, row_tables, take_out
from edgedistill.compress.refusal import nothing_to_take

#: More rounds move no colour by what FP32 would show; Lloyd's rounds on values are cheap.
MOST_ROUNDS = 100
_LOW, _SHIFT = np.uint8(15), np.uint8(4)


class Palette16:
    """Sixteen colours: half a byte a weight."""

    needs_calibration: ClassVar[bool] = False
    num_colours: ClassVar[int] = 16

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model = onnx.load(artefact)
        graph = model.graph
        lookups, matrices = row_tables(graph), plain_matrices(graph)
        if not lookups and not matrices:
            raise nothing_to_take(graph, "matrices")
        for node, table in lookups:
            rows, output = node.input[1], node.output[0]
            place = list(graph.node).index(node)
            graph.node.remove(node)
            values, expansion = take_out(graph, table)
            self._colour(values, expansion, rows)
            expansion.insert(place, output)
        for matrix in matrices:
            values, expansion = take_out(graph, matrix)
            self._colour(values, expansion, None)
            expansion.insert(0, matrix.name)
        onnx.save(model, to)
        return to

    def _colour(self, values: np.ndarray, make: Expansion, rows: str | None) -> None:
        """Store indices and palette; take the rows that `rows` names (None: all)."""
        colours = palette_of(values, self.num_colours)
        indices = nearest(values, colours)
        palette = make.keep("palette", colours)
        if self.num_colours > 16:
            found = make.keep("indices", indices)
            found = make.add("Gather", [found, rows]) if rows else found
            found = make.add("Cast", [found], to=onnx.TensorProto.INT32)
        else:
            found = make.keep("indices", packed(indices))
            found = make.add("Gather", [found, rows]) if rows else found
            low = make.add("BitwiseAnd", [found, make.keep("low", _LOW)])
            high = make.add("BitShift", [found, make.keep("shift", _SHIFT)], direction="RIGHT")
            parts = [make.add("Cast", [half], to=onnx.TensorProto.INT32) for half in (low, high)]
            found = make.add("Concat", parts, axis=-1)
            if values.shape[1] % 2:
                ends = (("first", 0), ("width", values.shape[1]), ("axis", -1))
                cut = [make.keep(part, np.array([at], np.int64)) for part, at in ends]
                found = make.add("Slice", [found, *cut])
        make.add("Gather", [palette, found])


class Palette256(Palette16):
    """256 colours: a byte a weight."""

    num_colours: ClassVar[int] = 256


def palette_of(values: np.ndarray, num: int) -> np.ndarray:
    """`num` colours, float32 ascending: k-means of all values, begun at their quantiles.

    Lloyd's rounds on sorted values: a colour's own lie between the middles to its neighbours, so a
    round is `num` searches and differences of running sums.
    """
    ordered = np.sort(values.ravel()).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    distinct = np.unique(ordered)
    if len(distinct) <= num:
        return np.pad(distinct, (0, num - len(distinct)), mode="edge").astype(np.float32)
    # Half of the seeds at even shares, half at even steps: neither dense nor far values lack any.
    shares = np.quantile(ordered, (np.arange(num - num // 2) + 0.5) / (num - num // 2))
    steps = np.linspace(ordered[0], ordered[-1], num // 2)
    colours = np.sort(np.concatenate([shares, steps]))
    for _ in range(MOST_ROUNDS):
        bounds = np.searchsorted(ordered, (colours[1:] + colours[:-1]) / 2)
        starts, stops = np.append(0, bounds), np.append(bounds, len(ordered))
        counts = stops - starts
        means = (sums[stops] - sums[starts]) / np.maximum(counts, 1)
        moved = np.sort(np.where(counts > 0, means, colours))
        if np.array_equal(moved.astype(np.float32), colours.astype(np.float32)):
            break
        colours = moved
    return colours.astype(np.float32)


def nearest(values: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The index of the nearest colour, uint8 of the shape of `values`."""
    middles = (colours[1:].astype(np.float64) + colours[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)


def packed(indices: np.ndarray) -> np.ndarray:
    """Two indices below 16 a byte: the first half of a row low, the second high."""
    width = indices.shape[1]
    padded = np.pad(indices, ((0, 0), (0, width % 2)))
    half = padded.shape[1] // 2
    return np.asarray(padded[:, :half] | (padded[:, half:] << _SHIFT))


def palette_bytes(shape: tuple[int, int], num_colours: int) -> int:
    """Bytes of palette and indices of a matrix."""
    rows, width = shape
    row = width if num_colours > 16 else (width + 1) // 2
    return rows * row + 4 * num_colours


def stored_bytes(file: Path) -> int:
    """Bytes of all constants of a file."""
    return sum(numpy_helper.to_array(t).nbytes for t in onnx.load(file).graph.initializer)
