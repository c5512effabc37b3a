"""Planned ONNX language models against the files that are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedistill.core.weight_types import FOUR_BITS
from edgedistill.export.onnx_language import write_onnx_language
from edgedistill.pipeline.generation.rounding import write_rounded
from edgedistill.sizing.architectures.catalogue import network_of
from edgedistill.sizing.config_file import read_config
from edgedistill.sizing.network import Role
from edgedistill.sizing.schemes import ONNX_NOTES, scheme
from small_llama import make_model

#: Whole groups and such as are filled up, tables of their own, small matrices that stay as they
#: are (the keys' alone, and with what they stand beside), attention wider than the stream.
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied, filled groups": {"tied": False, "num_key_value_heads": 1, "intermediate_size": 200},
    "narrow blocks": {"width": 60, "num_attention_heads": 6, "intermediate_size": 60},
    "wide heads": {"head_dim": 32},
    "small attention": {"width": 32, "intermediate_size": 96},
}
#: What the graph takes for each layer, in operators and names, and all else together.
A_LAYER, BESIDE = 6_000, 6_000


def written(model: Any, kind: str, folder: Path) -> Path:
    file = folder / "model.onnx"
    if kind not in FOUR_BITS:
        return write_onnx_language(model, to=file, kind=kind).path
    rng = np.random.default_rng(2)
    rows = [rng.integers(0, 300, 12).tolist() for _ in range(8)]
    return write_rounded(model, to=file, kind=kind, rows=rows).path


def role_of(name: str) -> Role | None:
    """What an array of the file is for; None: of the graph, not of the weights."""
    if name.startswith(("embed_tokens.q8", "embed_tokens.scales")):
        return "embedding"
    if name.startswith(("lm_head.q8", "lm_head.scales")):
        return "head"
    if name.endswith("norm.weight"):
        return "vector"
    if name.startswith("layer."):
        return "attention" if name.split(".")[2].split("/")[0] in ("qkv", "out") else "mlp"
    return None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ONNX_NOTES)
def test_weights_take_the_planned_bytes_and_the_graph_little_more(
    kind: str, shape: str, tmp_path: Path
) -> None:
    model = make_model(**SHAPES[shape])
    model.config.save_pretrained(tmp_path)
    network = network_of(read_config(str(tmp_path)))
    file = written(model, kind, tmp_path)
    found: dict[Role | None, int] = {}
    arrays = {t.name: numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}
    for name, values in arrays.items():
        found[role_of(name)] = found.get(role_of(name), 0) + values.nbytes
    beside = found.pop(None)
    planned = scheme(kind).store(network)
    if kind == "onnx_awq_int4":
        # Where plain rounding is best there is no division, and its array is not there either.
        layers = range(network.num_blocks)
        rounded = [n for n in layers if f"layer.{n}.out/codes" in arrays]
        absent = [n for n in rounded if f"layer.{n}.out/inverse" not in arrays]
        assert len(absent) < max(1, len(rounded))
        width = model.model.layers[0].self_attn.o_proj.in_features
        found["attention"] += 4 * width * len(absent)
    assert {role: size for role, size in planned.by_role().items() if size} == found
    assert planned.size_bytes == sum(found.values())
    rest = file.stat().st_size - planned.size_bytes
    assert beside < rest < BESIDE + A_LAYER * network.num_blocks


def test_bits_a_weight_of_a_real_model() -> None:
    network = network_of(read_config("smollm2-135m"))
    eight = scheme("onnx_int8").store(network).by_role()
    four = scheme("onnx_int4").store(network).by_role()
    weights = {role: sum(t.num_weights for t in network.tensors if t.role == role)
               for role in four}  # fmt: skip
    # 576 and 1,536 inputs: 18 and 48 groups of 32 without a rest, 4.5 and 12 of 128.
    assert eight["embedding"] == four["embedding"] == weights["embedding"] * 9 / 8
    assert eight["mlp"] == weights["mlp"] * 9 / 8
    narrow = sum(t.num_weights for t in network.tensors
                 if t.role == "mlp" and t.shape[-1] == 576)  # fmt: skip
    assert four["mlp"] == (narrow * 5 / 4.5 + weights["mlp"] - narrow) * 4.25 / 8
