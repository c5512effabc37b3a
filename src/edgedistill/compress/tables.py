"""Embedding tables in fewer bits: FP16, INT8 with one scale a row, or INT4 with one for 32 values.

The rows stay small in memory too: only the rows that a text needs are widened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx

from edgedistill.compress.blocks import DOMAIN, codes_of, scales_of, use_domain
from edgedistill.compress.expansion import Expansion, row_tables, take_out
from edgedistill.compress.refusal import nothing_to_take, shared_matrices
from edgedistill.compress.symmetric import in_half, quantise

#: Values of a row that share a scale in INT4.
GROUP = 32


class _Tables(ABC):
    """Stores tables in another form and widens the rows that are looked up."""

    needs_calibration: ClassVar[bool] = False
    what: ClassVar[str] = "tables of rows"

    def __call__(
        self, artefact: Path, *, to: Path, calibration: Sequence[Mapping[str, np.ndarray]]
    ) -> Path:
        model = onnx.load(artefact)
        graph = model.graph
        lookups = [(node, table) for node, table in row_tables(graph) if self._pays(*table.dims)]
        if not lookups:
            raise nothing_to_take(graph, self.what, shared=shared_matrices(graph))
        for node, table in lookups:
            place = list(graph.node).index(node)
            rows, output = node.input[1], node.output[0]
            graph.node.remove(node)
            values, make = take_out(graph, table)
            self._look_up(values, make, rows)
            make.insert(place, output)
        use_domain(model)
        onnx.save(model, to)
        return to

    def _pays(self, rows: int, width: int) -> bool:
        """Whether a table of this shape becomes smaller than in INT8 or FP16."""
        return True

    @abstractmethod
    def _look_up(self, values: np.ndarray, make: Expansion, rows: str) -> None:
        """Store `values`, and make the rows that `rows` names in FP32."""


class Int8Tables(_Tables):
    """Symmetric INT8 with a scale a row: row ≈ scale · int8, scale = max|row| / 127."""

    def _look_up(self, values: np.ndarray, make: Expansion, rows: str) -> None:
        small, scale = quantise(values, axis=1)
        found = make.add("Gather", [make.keep("narrow", small), rows])
        wide = make.add("Cast", [found], to=onnx.TensorProto.FLOAT)
        scales = make.add("Gather", [make.keep("scale", scale), rows])
        make.add("Mul", [wide, scales])


class Float16Tables(_Tables):
    """IEEE half precision, widened to FP32 after the look-up."""

    def _look_up(self, values: np.ndarray, make: Expansion, rows: str) -> None:
        found = make.add("Gather", [make.keep("narrow", in_half(values)), rows])
        make.add("Cast", [found], to=onnx.TensorProto.FLOAT)


class Int4Tables(_Tables):
    """Four bits a value and an FP16 scale for 32 of a row: 4.5 bits; the last group of a row is
    filled with zeros, so narrow tables are left alone."""

    what: ClassVar[str] = "tables of rows wide enough for INT4"

    def _pays(self, rows: int, width: int) -> bool:
        # Half a byte a value and two a group, of groups that are filled up: INT8 takes four a row.
        return -(-width // GROUP) * (GROUP // 2 + 2) < width + 4

    def _look_up(self, values: np.ndarray, make: Expansion, rows: str) -> None:
        width = values.shape[1]
        padded = np.pad(in_half(values).astype(np.float32), ((0, 0), (0, -width % GROUP)))
        groups = padded.reshape(len(values), -1, GROUP)
        # The runtime multiplies with the scale as it is stored: codes are found for that one.
        scales = scales_of(groups, 4).astype(np.float16)
        scales = np.where(scales == 0, np.float16(1), scales)
        codes = codes_of(groups, scales[..., None].astype(np.float32), 4).reshape(len(values), -1)
        narrow = make.keep("narrow", codes[:, 0::2] | (codes[:, 1::2] << 4))
        found = make.add(
            "GatherBlockQuantized", [narrow, rows, make.keep("scale", scales)], domain=DOMAIN,
            bits=4, block_size=GROUP, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        wide = make.add("Cast", [found], to=onnx.TensorProto.FLOAT)
        if width % GROUP:
            ends = (("first", 0), ("width", width), ("axis", -1))
            cut = [make.keep(part, np.array([at], np.int64)) for part, at in ends]
            make.add("Slice", [wide, *cut])
