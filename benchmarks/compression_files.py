"""One network's file after each pass: bytes, speed and answers, on equal terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgedistill.compress.expansion import plain_matrices, row_tables
from edgedistill.compress.sequence import apply_passes
from edgedistill.runtime.measuring import alternate_ms
from edgedistill.runtime.text_model import TextModel
from strategies_pooled import Spread

#: What ONNX Runtime's own quantiser does when it is left alone: the peer.
PEER = "onnxruntime quantize_dynamic"
PALETTES = {"palette_256": 256, "palette_16": 16}
SEQUENCES: dict[str, tuple[str, ...]] = {
    "int8_tables + dynamic_int8": ("int8_tables", "dynamic_int8"),
    "int4_tables + group_int4": ("int4_tables", "group_int4"),
    "int4_tables + awq_int4": ("int4_tables", "awq_int4"),
    "int4_tables + gptq_int4": ("int4_tables", "gptq_int4"),
    **{name: (name,) for name in PALETTES},
}
NUM_TIMED, NUM_ROUNDS = 100, 5
#: A file with the tokenizer of its task.
Reading = Callable[[Path], TextModel]


@dataclass(frozen=True)
class FileScore:
    """A file: its bytes, answers (int [rows]) and speed against full precision, median of rounds
    with the least and most."""

    name: str
    size_bytes: int
    answers: np.ndarray
    speed: Spread


def make_files(
    full: Path, folder: Path, calibration: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, Path]:
    """Every sequence over the export `full`, and the peer, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    peer = folder / "peer.onnx"
    quantize_dynamic(full, peer, weight_type=QuantType.QInt8)
    made = {PEER: peer}
    for name, passes in SEQUENCES.items():
        made[name] = apply_passes(passes, full, folder, calibration, asked_at=passes).file
    return made


def scores_of(
    full: Path, files: Mapping[str, Path], texts: Sequence[str], reading: Reading
) -> list[FileScore]:
    """Each file against full precision, timed with the first of `texts`."""
    whole = reading(full)
    scores = []
    for name, file in files.items():
        model = reading(file)
        answers = model.raw(texts)[0].argmax(1)
        speed = speed_of(whole, model, texts[:NUM_TIMED])
        scores.append(FileScore(name, file.stat().st_size, answers, speed))
    return scores


def speed_of(full: TextModel, small: TextModel, texts: Sequence[str]) -> Spread:
    """p50 of the one over that of the other, tokenization included, one text at a time and in turn
    (A B A B): median of rounds, least, most."""
    calls = [lambda text: full.raw([text]), lambda text: small.raw([text])]
    ratios = []
    for _ in range(NUM_ROUNDS):
        before, after = alternate_ms(calls, texts, rounds=1)
        ratios.append(float(np.median(before) / np.median(after)))
    return float(np.median(ratios)), min(ratios), max(ratios)


def computed_bytes(full: Path, num_colours: int) -> int:
    """Bytes of the weights after a palette, by arithmetic: an index each of as many bits as tell
    the colours apart, the FP32 colours of each matrix, and what is not coloured."""
    graph = onnx.load(full).graph
    coloured = [table for _, table in row_tables(graph)] + plain_matrices(graph)
    names = {tensor.name for tensor in coloured}
    rest = sum(_bytes(t) for t in graph.initializer if t.name not in names)
    bits = (num_colours - 1).bit_length()
    return rest + sum(math.prod(t.dims) * bits // 8 + 4 * num_colours for t in coloured)


def _bytes(tensor: onnx.TensorProto) -> int:
    return int(onnx.numpy_helper.to_array(tensor).nbytes)
