"""What a teacher computed inside, kept on disk: half precision, without padding, memory-mapped.

Every signal is one flat array, text after text; a text of n tokens holds `layers · n · width`
numbers of hidden states, `layers · heads · n · head_size` of each kind of vector, and
`layers · heads · n · n` of attention maps. Half precision keeps a number to one part in 2,048.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import ModelError
from edgedistill.core.files import read_json, write_json
from edgedistill.core.protocols import Signal
from edgedistill.models.internals import NetworkShape, teacher_internals

#: Texts that a killed run may have to read again, and of a batch.
PART, BATCH = 4096, 128
STATE = "internals.json"

Layers = Mapping[Signal, tuple[int, ...]]


@dataclass(frozen=True)
class RaggedSignal:
    """A signal of many texts; rows are taken out padded with zeros to the longest of them.

    `values` float16, flat; `lengths` int64 [n]: tokens a text; `leading`: the axes before that of
    tokens; `width`: the last axis, None where it is as long as the text.
    """

    values: np.ndarray
    lengths: np.ndarray
    leading: tuple[int, ...]
    width: int | None

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Float16 [len(rows), *leading, longest, width] of the texts `rows`, int [m]."""
        longest = int(self.lengths[rows].max(initial=1))
        shape = (len(rows), *self.leading, longest, self.width or longest)
        found = np.zeros(shape, np.float16)
        for place, row in enumerate(rows):
            own = self.row_shape(row)
            found[place, ..., : own[-2], : own[-1]] = self.values[self.place(row)].reshape(own)
        return found

    def row_shape(self, row: int) -> tuple[int, ...]:
        """[*leading, tokens, width] of a text."""
        num = int(self.lengths[row])
        return (*self.leading, num, self.width or num)

    def place(self, row: int) -> slice:
        """Where a text's numbers lie in `values`."""
        return slice(int(self._starts[row]), int(self._starts[row + 1]))

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(sizes(self.lengths, self.leading, self.width))])


def sizes(lengths: np.ndarray, leading: tuple[int, ...], width: int | None) -> np.ndarray:
    """How many numbers each text has, int64 [n]."""
    return np.asarray(math.prod(leading) * lengths * (lengths if width is None else width))


def internals_bytes(layers: Layers, shape: NetworkShape, lengths: np.ndarray) -> int:
    """Bytes of the signals of texts of so many tokens: exactly what `write_internals` takes."""
    return sum(
        2 * int(sizes(lengths, leading, width).sum())
        for leading, width in (_axes(signal, layers, shape) for signal in layers)
    )


def write_internals(
    model: Any,
    texts: Encoded,
    layers: Layers,
    shape: NetworkShape,
    folder: Path,
    *,
    pad_id: int,
    progress: Callable[[float], None],
) -> None:
    """Let a teacher read the texts and keep its signals; continues what was cut off.

    Args:
        model: the teacher, in evaluation mode.
        layers: of each signal that is kept, the layers.

    Raises:
        ModelError: the teacher computes something that is not a number.
    """
    state = folder / STATE
    done = int(read_json(state)["num_texts"]) if state.exists() else 0
    signals = _mapped(folder, texts, layers, shape, "r+" if done else "w+")
    for start in range(done, len(texts), PART):
        stop = min(start + PART, len(texts))
        order = start + np.argsort(texts.lengths[start:stop], kind="stable")
        for first in range(0, len(order), BATCH):
            _read(model, texts, order[first : first + BATCH], layers, signals, pad_id)
        for signal in signals.values():
            signal.values.flush()  # type: ignore[attr-defined]
        write_json(state, {"num_texts": stop})
        progress(stop / len(texts))


def open_internals(
    folder: Path, texts: Encoded, layers: Layers, shape: NetworkShape
) -> dict[Signal, RaggedSignal]:
    """What `write_internals` kept of the same texts."""
    return _mapped(folder, texts, layers, shape, "r")


def _read(
    model: Any,
    texts: Encoded,
    rows: np.ndarray,
    layers: Layers,
    signals: Mapping[Signal, RaggedSignal],
    pad_id: int,
) -> None:
    """Read a batch of texts and put their signals in their places."""
    import torch

    device = next(iter(model.parameters())).device
    ids, mask = (torch.from_numpy(a).to(device) for a in texts.padded(rows, pad_id))
    for signal, found in teacher_internals(model, ids, mask, layers).items():
        ragged = signals[signal]
        for row, values in zip(rows, found.cpu().numpy(), strict=True):
            own = ragged.row_shape(row)
            kept = values[..., : own[-2], : own[-1]]
            if not np.isfinite(kept).all():
                raise ModelError(
                    f"the teacher's {signal} of text {int(row)} are not numbers",
                    where="teacher",
                    fix="check its weights, or train it with precision fp32",
                )
            ragged.values[ragged.place(row)] = np.clip(kept, -6e4, 6e4).ravel()


def _mapped(
    folder: Path, texts: Encoded, layers: Layers, shape: NetworkShape, mode: Any
) -> dict[Signal, RaggedSignal]:
    found = {}
    for signal in layers:
        leading, width = _axes(signal, layers, shape)
        size = int(sizes(texts.lengths, leading, width).sum())
        file = folder / f"{signal.name.lower()}.f16"
        values = np.memmap(file, np.float16, mode, shape=(size,))
        found[signal] = RaggedSignal(values, texts.lengths, leading, width)
    return found


def _axes(
    signal: Signal, layers: Layers, shape: NetworkShape
) -> tuple[tuple[int, ...], int | None]:
    """(axes before that of tokens, width after it) of a signal of several layers."""
    inner, width = shape.widths(signal)
    return (len(layers[signal]), *inner), width
