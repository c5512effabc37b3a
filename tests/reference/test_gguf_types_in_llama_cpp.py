"""Files of every type in llama.cpp, against transformers on the weights that the file holds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_llama
from edgedistill.export.gguf import interleaved, write_gguf
from edgedistill.export.gguf_types import GGUF_TYPES
from edgedistill.models.language.decoding import greedy_ids, log_probabilities
from edgedistill.models.language.importance import mean_squared_inputs
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession

pytest.importorskip("xllamacpp")
gguf = pytest.importorskip("gguf")

SEQUENCE = [small_llama.BOS, *(int(i) for i in np.random.default_rng(5).integers(3, 400, 60))]


@pytest.fixture(scope="module")
def model() -> Any:
    """Wide enough for super-blocks, but for one matrix; answers with some confidence."""
    return small_llama.make_model(width=256, initializer_range=0.06)


@pytest.fixture(scope="module")
def importance(model: Any) -> dict[str, np.ndarray]:
    tokenizer = small_llama.make_tokenizer()
    return mean_squared_inputs(model, [tokenizer.encode(t).ids for t in small_llama.TEXTS])


def as_stored(model: Any, file: Path) -> Any:
    """The model with the weights that a file holds, decoded by the `gguf` package."""
    stored = {t.name: t for t in gguf.GGUFReader(file).tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    found = copy.deepcopy(model)
    for name, weights in found.named_parameters():
        tensor = stored[names.get_name(name, try_suffixes=(".weight",))]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            if part in name:
                rows = interleaved(np.arange(len(values))[:, None], heads)[:, 0]
                values = values[np.argsort(rows)]
        with torch.no_grad():
            weights.copy_(torch.tensor(values.reshape(weights.shape)))
    return found


@pytest.mark.parametrize("kind", GGUF_TYPES)
def test_llama_cpp_reads_the_blocks_as_they_were_meant(
    kind: str, model: Any, importance: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """What remains is the rounding of activations, to 8 bits in blocks of 32 or 256."""
    file = write_gguf(
        model, small_llama.make_tokenizer(), to=tmp_path / "m.gguf", kind=kind,
        importance=importance,
    ).path  # fmt: skip
    stored = as_stored(model, file)
    expected = log_probabilities(stored, SEQUENCE)
    with LlamaCppSession(file, context=small_llama.CONTEXT) as session:
        found = session.score(SEQUENCE)
        told = session.generate(SEQUENCE[:20], max_new_tokens=40)
    most = {"f32": 1e-5, "f16": 2e-3, "bf16": 0.015}.get(kind, 0.03)
    assert np.sqrt(((found - expected) ** 2).mean()) < most
    wanted = greedy_ids(stored, SEQUENCE[:20], max_new_tokens=40, end_id=small_llama.EOS)
    assert told.ids is not None
    if told.ids == tuple(wanted):
        return
    # They may part only where the reference itself is all but undecided.
    pairs = zip(wanted, told.ids, strict=False)
    at = next(i for i, (a, b) in enumerate(pairs) if a != b)
    rivals = [
        log_probabilities(stored, [*SEQUENCE[:20], *wanted[:at], token])[-1]
        for token in (wanted[at], told.ids[at])
    ]
    assert rivals[0] - rivals[1] < 5 * most
