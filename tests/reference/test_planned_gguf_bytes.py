"""Planned GGUF files against those that the exporter writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgedistill.export.gguf import write_gguf
from edgedistill.export.gguf_types import GGUF_TYPES
from edgedistill.sizing.architectures.catalogue import network_of
from edgedistill.sizing.config_file import read_config
from edgedistill.sizing.schemes import scheme
from edgedistill.sizing.stored import GGUF_ALIGNMENT
from small_llama import make_model, make_tokenizer

gguf = pytest.importorskip("gguf")
SCALED = {"rope_parameters": {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"tied": False}, SCALED], ids=["tied", "untied", "rope"])
@pytest.mark.parametrize("kind", sorted(GGUF_TYPES))
def test_every_tensor_has_the_planned_type_and_bytes(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model(**changes)
    model.save_pretrained(tmp_path)
    network = network_of(read_config(str(tmp_path)))
    sized = scheme(f"gguf_{kind}").store(network)
    file = tmp_path / "model.gguf"
    write_gguf(tmp_path, make_tokenizer(), to=file, kind=kind)
    reader = gguf.GGUFReader(file)
    written = sorted(
        (each.tensor_type.name, int(each.n_bytes))
        for each in reader.tensors if each.name != "rope_freqs.weight"
    )  # fmt: skip
    planned = sorted((one.kind, one.size_bytes) for _, (one,) in sized.by_tensor)
    assert planned == written
    assert network.num_rotary_factors == sum(
        int(each.n_elements) for each in reader.tensors if each.name == "rope_freqs.weight"
    )
    padded = sum(-(-int(each.n_bytes) // GGUF_ALIGNMENT) * GGUF_ALIGNMENT
                 for each in reader.tensors)  # fmt: skip
    assert file.stat().st_size - reader.data_offset == padded
    entries = sum(32 + len(each.name) + 8 * len(each.shape) for each in reader.tensors)
    # Our names are those of transformers, and longer.
    ours = sum(len(tensor.name) for tensor in network.tensors)
    theirs = sum(len(each.name) for each in reader.tensors if each.name != "rope_freqs.weight")
    assert sized.size_bytes == padded + entries - 8 * len(reader.tensors) + ours - theirs
