"""Language models with layers of four bits: the files against `transformers` and brute force."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import small_llama
from clipped_by_hand import clipped_by_hand, errors
from edgedistill.compress import awq
from edgedistill.compress.blocks import Blocks, to_blocks
from edgedistill.core.errors import CannotApply, ModelError, SpecError
from edgedistill.core.weight_types import FOUR_BITS
from edgedistill.export.onnx_language import write_onnx_language
from edgedistill.pipeline.generation.rounding import write_rounded
from edgedistill.runtime.generation.onnx_network import OnnxNetwork

#: Feed-forwards of two whole groups, or with one that is not full; tables of their own or tied.
SHAPES: tuple[dict[str, Any], ...] = (
    {"intermediate_size": 256},
    {"tied": False, "num_key_value_heads": 1, "intermediate_size": 96},
)
PARTS = {"qkv": "self_attn.q_proj", "out": "self_attn.o_proj",
         "units": "mlp.gate_proj", "down": "mlp.down_proj"}  # fmt: skip


def small_model(**changes: Any) -> Any:
    """Inputs of the layers differ in size, as in a model that was trained."""
    model = small_llama.make_model(initializer_range=0.08, **changes)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(torch.randn_like(parameter).mul(0.7).exp())
            if "up_proj" in name:
                parameter.mul_(torch.randn(len(parameter), 1).mul(0.7).exp())
    return model


def calibration() -> list[list[int]]:
    rng = np.random.default_rng(2)
    return [rng.integers(0, 400, rng.integers(1, 60)).tolist() for _ in range(40)]


def written(folder: Path, kind: str, model: Any) -> Path:
    file = write_rounded(model, to=folder / f"{kind}.onnx", kind=kind, rows=calibration())
    assert file.size_bytes == file.path.stat().st_size
    assert [path.name for path in folder.iterdir()] == [file.path.name]
    return file.path


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}


def blocks_of(arrays: dict[str, np.ndarray], name: str, width: int) -> Blocks:
    packed = arrays[f"{name}/codes"]
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:2], -1)
    return Blocks(codes, arrays[f"{name}/scales"], 4, width)


def put_in(model: Any, file: Path) -> None:
    """Give a model the weights that the file's codes stand for, its norms and its divisions."""
    arrays = arrays_of(file)

    def put(layer: int, part: str, *modules: Any) -> None:
        name = f"layer.{layer}.{part}"
        values = blocks_of(arrays, name, modules[0].in_features).values.T
        values = values * arrays.get(f"{name}/inverse", np.float32(1))
        for module in modules:
            module.weight.copy_(torch.from_numpy(values[: module.out_features].copy()))
            values = values[module.out_features :]
        assert not len(values)

    def eight(name: str, weight: torch.Tensor) -> None:
        signed = arrays[f"{name}.q8"].astype(np.float32) - 128
        wide = (signed * arrays[f"{name}.scales"][..., None]).reshape(len(weight), -1)
        weight.copy_(torch.from_numpy(wide[:, : weight.shape[1]]))

    with torch.no_grad():
        eight("embed_tokens", model.model.embed_tokens.weight)
        if not model.config.tie_word_embeddings:
            eight("lm_head", model.lm_head.weight)
        for number, layer in enumerate(model.model.layers):
            attention, feed = layer.self_attn, layer.mlp
            put(number, "qkv", attention.q_proj, attention.k_proj, attention.v_proj)
            put(number, "out", attention.o_proj)
            put(number, "units", feed.gate_proj, feed.up_proj)
            put(number, "down", feed.down_proj)
            for norm, name in ((layer.input_layernorm, "attention"),
                               (layer.post_attention_layernorm, "feed")):  # fmt: skip
                kept = arrays[f"layer.{number}.{name}.norm.weight"]
                norm.weight.copy_(torch.from_numpy(kept.copy()))


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", FOUR_BITS)
def test_a_file_is_the_model_of_the_weights_that_its_codes_stand_for(
    changes: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    """What is left is the rounding of activations to eight bits by group."""
    model = small_model(**changes)
    file = written(tmp_path, kind, model)
    network = OnnxNetwork(file.read_bytes())
    ids = np.random.default_rng(3).integers(0, network.vocab_size, (1, 60))
    found, _ = network.read(ids, network.empty(), every=True)
    with torch.no_grad():
        full = model(torch.tensor(ids)).logits.numpy()
        put_in(model, file)
        rounded = model(torch.tensor(ids)).logits.numpy()
    error, of_weights = np.abs(found - rounded).mean(), np.abs(full - rounded).mean()
    assert 0 < error < 0.3 * of_weights
    assert error < 0.05 * full.std()


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", FOUR_BITS)
def test_reading_in_steps_is_reading_at_once_whoever_is_beside(
    changes: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    network = OnnxNetwork(written(tmp_path, kind, small_model(**changes)).read_bytes())
    ids = np.random.default_rng(0).integers(0, network.vocab_size, (3, 40))
    alone, _ = network.read(ids[:1], network.empty(), every=True)
    cache = [np.repeat(part, 3, axis=0) for part in network.empty()]
    parts, at = [], 0
    for size in (1, 20, 1, 7, 11):
        logits, cache = network.read(ids[:, at : at + size], cache, every=True)
        parts.append(logits[:1])
        at += size
    np.testing.assert_allclose(np.concatenate(parts, 1), alone, rtol=0, atol=1e-4)


@cache
def inputs_of() -> dict[str, np.ndarray]:
    """What the layers of the first shape meet on the calibration rows, read in torch."""
    model, seen = small_model(**SHAPES[0]), dict[str, list[np.ndarray]]()
    for number, layer in enumerate(model.model.layers):
        for part, path in PARTS.items():
            rows = seen.setdefault(f"layer.{number}.{part}", [])

            def gather(
                module: Any, inputs: Any, result: Any, rows: list[np.ndarray] = rows
            ) -> None:
                rows.append(inputs[0][0].numpy())

            layer.get_submodule(path).register_forward_hook(gather)
    with torch.no_grad():
        for row in calibration():
            model(torch.tensor([row]))
    return {name: np.concatenate(rows).astype(np.float64) for name, rows in seen.items()}


def matrices(model: Any) -> dict[str, np.ndarray]:
    """By name: [in, out], as the file stores them."""
    found = {}
    for number, layer in enumerate(model.model.layers):
        attention, feed = layer.self_attn, layer.mlp
        for part, modules in {
            "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
            "out": [attention.o_proj],
            "units": [feed.gate_proj, feed.up_proj],
            "down": [feed.down_proj],
        }.items():
            found[f"layer.{number}.{part}"] = np.concatenate(
                [module.weight.detach().numpy() for module in modules]
            ).T
    return found


def test_awq_stores_what_brute_force_finds_and_moves_the_divisions(tmp_path: Path) -> None:
    model = small_model(**SHAPES[0])
    arrays = arrays_of(written(tmp_path, "onnx_awq_int4", model))
    best, gains = {}, []
    for name, values in matrices(model).items():
        x, tried = inputs_of()[name], []
        for power in np.arange(20) / 20:
            scales = np.abs(x).mean(0) ** power
            scales /= np.sqrt(scales.max() * scales.min())
            rounded = to_blocks((values * scales[:, None]).astype(np.float32), 4).values
            tried.append((errors(x, rounded / scales[:, None], values).sum(), power, scales))
        _, _, scales = min(tried, key=lambda found: found[0])
        rounded = clipped_by_hand(x / scales, values * scales[:, None]) / scales[:, None]
        best[name] = (scales, errors(x, rounded, values).sum())
        gains.append(best[name][1] / tried[0][0])
    # Never worse than plain rounding on what it was fitted to, and clearly better.
    assert max(gains) < 0.9
    # The file meets its inputs with a table of eight bits: they differ in the third place.
    for number, layer in enumerate(model.model.layers):
        name = f"layer.{number}"
        for part, place, norm in (("qkv", "attention", layer.input_layernorm),
                                  ("units", "feed", layer.post_attention_layernorm)):  # fmt: skip
            expected = norm.weight.detach().numpy() / best[f"{name}.{part}"][0]
            np.testing.assert_allclose(arrays[f"{name}.{place}.norm.weight"], expected, rtol=5e-3)
        inverse = arrays[f"{name}.out/inverse"]
        np.testing.assert_allclose(inverse, 1 / best[f"{name}.out"][0], rtol=5e-3)
        for part in PARTS:
            scales, least = best[f"{name}.{part}"]
            found = blocks_of(arrays, f"{name}.{part}", len(scales)).values / scales[:, None]
            if part == "units":
                # The units of the second matrix are divided by what `down` is scaled by.
                found[:, 256:] *= best[f"{name}.down"][0]
            values = matrices(model)[f"{name}.{part}"]
            error = errors(inputs_of()[f"{name}.{part}"], found, values).sum()
            # Steps that are as good may be others.
            assert error == pytest.approx(least, rel=0.02)


def test_moved_divisions_answer_as_those_that_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "left").mkdir()
    moved = written(tmp_path / "moved", "onnx_awq_int4", small_model(**SHAPES[0]))
    monkeypatch.setattr(awq, "fold", lambda *_: False)
    left = written(tmp_path / "left", "onnx_awq_int4", small_model(**SHAPES[0]))
    kinds = [[node.op_type for node in onnx.load(file).graph.node] for file in (moved, left)]
    assert kinds[1].count("Mul") - kinds[0].count("Mul") == 6
    ids = np.random.default_rng(8).integers(0, 400, (1, 50))
    networks = [OnnxNetwork(file.read_bytes()) for file in (moved, left)]
    first, second = (n.read(ids, n.empty(), every=True)[0] for n in networks)
    # A last bit may tip the rounding of an activation, seldom.
    assert np.abs(first - second).mean() < 2e-3 * first.std()


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_bytes_and_what_is_told_of_groups(changes: dict[str, Any], tmp_path: Path) -> None:
    model = small_model(**changes)
    tables = sum(p.numel() for n, p in model.named_parameters() if "embed" in n or "lm_head" in n)
    layers = sum(to_blocks(values, 4).size_bytes for values in matrices(model).values())
    sizes = {}
    for kind in FOUR_BITS:
        file = write_rounded(model, to=tmp_path / "m.onnx", kind=kind, rows=calibration())
        sizes[kind] = file.size_bytes
        told = dict(file.fallbacks)
        assert told.pop("embed_tokens") == "8 bits in groups of 32"
        assert told.pop("lm_head", None) == (None if "tied" not in changes else (
            "8 bits in groups of 32"))  # fmt: skip
        assert told["layer.0.qkv"] == "4 bits in groups of 64"
        narrow = "4 bits in groups of 128, the last with 96 weights"
        assert told.get("layer.1.down") == (narrow if "tied" in changes else None)
    expected = layers + tables * 9 / 8
    assert expected < sizes["onnx_int4"] < expected + 10_000
    assert max(sizes.values()) < expected + 12_000


def test_the_same_model_and_rows_give_the_same_bytes(tmp_path: Path) -> None:
    contents = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        contents.add(written(tmp_path / name, "onnx_awq_int4", small_model()).read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("rows", [[], [[1, 2, 3]], [[]] * 20], ids=["none", "one", "empty"])
@pytest.mark.parametrize("kind", FOUR_BITS[1:])
def test_too_few_rows_are_refused_and_leave_nothing(
    kind: str, rows: list[list[int]], tmp_path: Path
) -> None:
    with pytest.raises(CannotApply, match="calibration"):
        write_rounded(small_model(), to=tmp_path / "m.onnx", kind=kind, rows=rows)
    assert not list(tmp_path.iterdir())
    assert write_rounded(small_model(), to=tmp_path / "m.onnx", kind="onnx_int4", rows=rows)


def test_rows_beyond_the_context_are_cut_and_a_small_model_is_refused(tmp_path: Path) -> None:
    long = [list(range(3, 300)) for _ in range(9)]
    kind = "onnx_gptq_int4"
    assert write_rounded(small_model(), to=tmp_path / "m.onnx", kind=kind, rows=long)
    tiny = small_llama.make_model(width=16, intermediate_size=16, head_dim=4)
    with pytest.raises(CannotApply, match="4,096 weights"):
        write_rounded(tiny, to=tmp_path / "tiny.onnx", kind="onnx_int4", rows=long)
    with pytest.raises(ModelError, match="Linear"):
        write_rounded(torch.nn.Linear(2, 2), to=tmp_path / "l.onnx", kind="onnx_int4", rows=long)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_layers_too_small_for_four_bits_stay_as_they_are(tmp_path: Path) -> None:
    """Of 64 x 32 the output projection has 2,048 weights."""
    model = small_llama.make_model(head_dim=8)
    file = write_rounded(model, to=tmp_path / "m.onnx", kind="onnx_awq_int4", rows=calibration())
    assert file.fallbacks["layer.0.out"] == "fp32"
    network = OnnxNetwork(file.path.read_bytes())
    assert network.read_prompt([5, 6, 7])[0].shape == (400,)


def test_the_half_done_file_is_no_type_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="onnx_int4"):
        write_onnx_language(small_model(), to=tmp_path / "m.onnx", kind="onnx_int4")
