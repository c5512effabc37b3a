"""The ONNX file of a language model: its interface, its bytes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import small_llama
from edgedistill.core.errors import ModelError, SpecError
from edgedistill.core.weight_groups import EIGHT_BIT_GROUP as BLOCK
from edgedistill.export import onnx_language
from edgedistill.export.onnx_language import write_onnx_language
from edgedistill.export.onnx_weights import ZERO, eight_bits


def test_one_file_with_named_inputs_outputs_and_free_axes(tmp_path: Path) -> None:
    file = write_onnx_language(small_llama.make_model(), to=tmp_path / "new" / "model.onnx")
    assert [path.name for path in file.path.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(file.path)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["input_ids"] == ["batch", "sequence"]
    assert shapes["positions"] == ["asked"]
    assert shapes["logits"] == ["batch", "asked", 400]
    for layer in (0, 1):
        for part in ("key", "value"):
            assert shapes[f"past_{part}.{layer}"] == ["batch", 2, "past", 16]
            assert shapes[f"present_{part}.{layer}"] == ["batch", 2, "present", 16]
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata == {"architecture": "llama", "context": "128", "end_ids": "[1]"}
    onnx.checker.check_model(model)


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_is_hardly_larger_than_its_weights(tied: bool, tmp_path: Path) -> None:
    model = small_llama.make_model(tied=tied)
    weights = sum(p.numel() for p in model.parameters())
    sizes = {
        kind: write_onnx_language(model, to=tmp_path / kind, kind=kind).size_bytes
        for kind in ("onnx_f32", "onnx_int8")
    }
    # Tied embeddings count once among the parameters, and so they must in the file.
    assert 4 * weights < sizes["onnx_f32"] < 4 * weights + 8_000
    assert sizes["onnx_int8"] < (1 + 4 / BLOCK) * weights + 10_000


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = {
        write_onnx_language(
            small_llama.make_model(), to=tmp_path / name, kind="onnx_int8"
        ).path.read_bytes()
        for name in ("a", "b")
    }
    assert len(contents) == 1


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 2 * BLOCK + 1)),
        elements=st.floats(-1e3, 1e3, width=32) | st.just(np.float32(0)),
    )
)
@settings(max_examples=50)
def test_eight_bits_are_off_by_half_a_step_at_most(weight: np.ndarray) -> None:
    blocks, scales = eight_bits(weight)
    assert blocks.shape == (len(weight), -(-weight.shape[1] // BLOCK), BLOCK)
    again = ((blocks.astype(np.float64) - ZERO) * scales[:, :, None]).reshape(len(weight), -1)
    np.testing.assert_array_equal(again[:, weight.shape[1] :], 0)
    error = np.abs(again[:, : weight.shape[1]] - weight)
    steps = np.repeat(scales, BLOCK, axis=1)[:, : weight.shape[1]]
    assert (error <= 0.5001 * steps + 1e-37).all()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "rope_type"),
    ],
    ids=str,
)
def test_what_is_not_translated_is_refused(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=named):
        small_llama.write_small_onnx(tmp_path, **changes)


def test_what_is_no_llama_or_not_finite_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    to = tmp_path / "model.onnx"
    with pytest.raises(ModelError, match="Linear"):
        write_onnx_language(torch.nn.Linear(2, 2), to=to)
    with pytest.raises(SpecError, match="onnx_f32, onnx_int8"):
        write_onnx_language(small_llama.make_model(), to=to, kind="f16")
    model = small_llama.make_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"layer\.1.* not finite"):
        write_onnx_language(model, to=to)
    assert not list(tmp_path.iterdir())


def test_a_model_beyond_one_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_language, "MOST_ONNX_BYTES", 300_000)
    with pytest.raises(ModelError, match="GGUF"):
        small_llama.write_small_onnx(tmp_path)
    assert small_llama.write_small_onnx(tmp_path, "onnx_int8").is_file()
