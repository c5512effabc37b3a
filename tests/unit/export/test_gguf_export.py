"""The GGUF file: its formats and sizes, what it says of itself, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import small_llama
from edgedistill.core.errors import MissingExtra, ModelError, SpecError
from edgedistill.export.gguf import write_gguf
from edgedistill.export.gguf_tokenizer import BYTE, CONTROL, UNUSED, gguf_vocabulary
from edgedistill.export.gguf_types import GGUF_TYPES, NARROWER, type_for_width
from edgedistill.models.language.importance import mean_squared_inputs
from edgedistill.runtime.generation.gguf_header import read_header

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def model() -> Any:
    return small_llama.make_model()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return small_llama.make_tokenizer()


@pytest.mark.parametrize("kind", GGUF_TYPES)
def test_every_kind_is_read_back_near_the_weights(
    kind: str, model: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    file = write_gguf(model, tokenizer, to=tmp_path / "new" / "model.gguf", kind=kind)
    assert file.type == kind
    assert file.size_bytes == file.path.stat().st_size
    assert [path.name for path in file.path.parent.iterdir()] == ["model.gguf"]
    tensors = {t.name: t for t in gguf.GGUFReader(file.path).tensors}
    weights = model.state_dict()
    for name, source in {
        "blk.1.ffn_up.weight": "model.layers.1.mlp.up_proj.weight",
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }.items():
        expected = weights[source].numpy()
        values = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        steps = {"f32": 0, "f16": 1e-3, "bf16": 1e-2, "q8_0": 1e-2}.get(kind, 0.15)
        np.testing.assert_allclose(values, expected, rtol=0, atol=steps * np.abs(expected).max())
    assert tensors["blk.0.attn_norm.weight"].tensor_type.name == "F32"
    for name, wanted in (
        ("blk.0.attn_q.weight", GGUF_TYPES[kind].first),
        ("blk.1.attn_q.weight", GGUF_TYPES[kind].tensor),
        ("token_embd.weight", GGUF_TYPES[kind].head),
    ):
        stored = tensors[name].tensor_type.name
        assert stored == type_for_width(wanted, 64)
        assert file.fallbacks.get(name, wanted) == stored
    assert bool(file.fallbacks) == kind.endswith("_k")


def test_fewer_bits_make_smaller_files(model: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    sizes = [
        write_gguf(model, tokenizer, to=tmp_path / kind, kind=kind).size_bytes
        for kind in ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize(
    ("kind", "types"),
    [("q4_k", {"Q4_K", "Q5_0", "Q6_K", "Q8_0"}), ("q5_k", {"Q5_K", "Q5_1", "Q6_K", "Q8_0"}),
     ("q6_k", {"Q6_K", "Q8_0"})],
)  # fmt: skip
def test_super_blocks_fall_back_by_matrix(
    kind: str, types: set[str], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = small_llama.make_model(width=256)
    file = write_gguf(model, tokenizer, to=tmp_path / "model.gguf", kind=kind)
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(file.path).tensors}
    fallbacks = {"blk.1.ffn_down.weight": NARROWER[GGUF_TYPES[kind].tensor]}
    if kind != "q6_k":
        fallbacks["blk.0.ffn_down.weight"] = "Q8_0"
    assert file.fallbacks == fallbacks
    assert set(kinds.values()) == types | {"F32"}
    for name, tensor in model.model.layers[1].mlp.named_parameters():
        stored = kinds[f"blk.1.ffn_{name.removesuffix('_proj.weight')}.weight"]
        assert stored == type_for_width(GGUF_TYPES[kind].tensor, tensor.shape[1])


def test_what_calibration_used_is_stored_finer(
    model: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Rounded by importance, what a layer puts out for its inputs errs less."""
    texts = [tokenizer.encode(text).ids for text in small_llama.TEXTS]
    used = mean_squared_inputs(model, texts)
    errors: dict[str, dict[str, float]] = {}
    for name, importance in (("alike", None), ("used", used)):
        file = write_gguf(
            model, tokenizer, to=tmp_path / name, kind="q4_0", importance=importance
        ).path
        stored = {t.name: t for t in gguf.GGUFReader(file).tensors}
        errors[name] = {}
        for tensor, layer, source in (
            ("blk.1.ffn_down", "model.layers.1.mlp.down_proj", "model.layers.1.mlp.down_proj"),
            ("blk.0.attn_v", "model.layers.0.self_attn.v_proj", "model.layers.0.self_attn.v_proj"),
            ("token_embd", "lm_head", "model.embed_tokens"),
        ):
            found = stored[f"{tensor}.weight"]
            values = gguf.quants.dequantize(found.data, found.tensor_type)
            wrong = values - model.state_dict()[f"{source}.weight"].numpy()
            errors[name][tensor] = float((wrong**2 @ used[layer]).sum())
    for tensor, alike in errors["alike"].items():
        assert errors["used"][tensor] < 0.999 * alike, tensor


def test_rows_that_blocks_do_not_divide_stay_f16(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small_llama.make_model(intermediate_size=100)
    file = write_gguf(model, tokenizer, to=tmp_path / "model.gguf", kind="q4_0")
    assert file.fallbacks == {"blk.0.ffn_down.weight": "F16", "blk.1.ffn_down.weight": "F16"}
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(file.path).tensors}
    assert kinds["blk.1.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_gate.weight"] == "Q8_0"
    assert kinds["blk.1.ffn_gate.weight"] == "Q4_0"


def test_a_single_block_is_no_first_one(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small_llama.make_model(num_hidden_layers=1)
    file = write_gguf(model, tokenizer, to=tmp_path / "model.gguf", kind="q5_0")
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(file.path).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "Q5_0"


def test_a_folder_gives_the_same_file_as_the_module(
    model: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "folder")
    from_folder = write_gguf(tmp_path / "folder", tokenizer, to=tmp_path / "a.gguf")
    from_module = write_gguf(model, tokenizer, to=tmp_path / "b.gguf")
    assert from_folder.path.read_bytes() == from_module.path.read_bytes()


def test_the_file_says_what_the_configuration_says(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = small_llama.make_model(tied=False, head_dim=32, eos_token_id=[1, 5])
    file = write_gguf(
        model, tokenizer, to=tmp_path / "model.gguf", name="desk", chat_template="{{ text }}"
    )
    header = read_header(file.path)
    said = header.metadata
    assert (header.context, header.vocab_size) == (small_llama.CONTEXT, 400)
    assert said["general.name"] == "desk"
    assert said["llama.attention.head_count"] == 4
    assert said["llama.attention.head_count_kv"] == 2
    assert said["llama.attention.key_length"] == said["llama.rope.dimension_count"] == 32
    assert said["llama.rope.freq_base"] == 5000
    assert said["tokenizer.ggml.model"] == "gpt2"
    assert said["tokenizer.ggml.pre"] == "gpt-2"
    assert said["tokenizer.ggml.eos_token_id"] == 1
    assert said["tokenizer.ggml.eot_token_id"] == 5
    assert said["tokenizer.chat_template"] == "{{ text }}"
    assert "output.weight" in header.shapes


def test_llama_cpp_kinds_beyond_the_package_are_named_as_such(
    model: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for kind in ("q4_k_m", "Q3_K", "iq4_xs"):
        with pytest.raises(SpecError, match="cannot be written") as caught:
            write_gguf(model, tokenizer, to=tmp_path / "model.gguf", kind=kind)
        assert "llama-quantize" in str(caught.value)
    with pytest.raises(SpecError, match="unknown GGUF type"):
        write_gguf(model, tokenizer, to=tmp_path / "model.gguf", kind="q9")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mistral"}, "mistral"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}, "rope_type"),
        ({"head_dim": 15}, "head_dim"),
        ({"eos_token_id": [1, 2, 3]}, "two end tokens"),
    ],
    ids=str,
)
def test_what_would_answer_wrongly_is_refused(
    change: dict[str, Any], named: str, model: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "folder")
    config = tmp_path / "folder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(ModelError, match=named):
        write_gguf(tmp_path / "folder", tokenizer, to=tmp_path / "out" / "model.gguf")
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_weights_that_the_format_cannot_hold_are_refused(
    value: float, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = small_llama.make_model()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 4] = value
    with pytest.raises(ModelError, match=r"not finite|range of F16"):
        write_gguf(model, tokenizer, to=tmp_path / "model.gguf", kind="f16")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_foreign_weights_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    small_llama.make_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    whole = weights.pop("model.layers.1.mlp.down_proj.weight")
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"missing.*ffn_down"):
        write_gguf(tmp_path, tokenizer, to=tmp_path / "model.gguf")
    save_file(weights | {"model.layers.1.experts.weight": whole}, file)
    with pytest.raises(ModelError, match="experts"):
        write_gguf(tmp_path, tokenizer, to=tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="not a model folder"):
        write_gguf(tmp_path / "none", tokenizer, to=tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="no configuration"):
        write_gguf(torch.nn.Linear(2, 2), tokenizer, to=tmp_path / "model.gguf")


def vocabulary(tokenizer: Tokenizer, num_rows: int = 400) -> Any:
    return gguf_vocabulary(tokenizer, num_rows=num_rows, bos_id=0, eos_id=1)


def test_rows_without_a_piece_are_marked(tokenizer: Tokenizer) -> None:
    found = vocabulary(tokenizer, num_rows=402)
    assert found.tokens[400:] == ["[PAD400]", "[PAD401]"]
    assert found.types[400:] == [UNUSED, UNUSED]
    assert found.types[:3] == [CONTROL] * 3
    with pytest.raises(ModelError, match="399, the model has 300"):
        vocabulary(tokenizer, num_rows=300)


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        (pre_tokenizers.ByteLevel(add_prefix_space=False), "gpt-2"),
        (
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            ),
            "smollm",
        ),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), None),
        (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), None),
        (pre_tokenizers.Whitespace(), None),
        (None, None),
    ],
)
def test_pre_tokenizers_are_named_or_refused(pre_tokenizer: Any, name: str | None) -> None:
    tokenizer = small_llama.make_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizer
    if name is None:
        with pytest.raises(ModelError, match="no name for the pre-tokenizer"):
            vocabulary(tokenizer)
    else:
        assert vocabulary(tokenizer).pre == name


def test_sentencepiece_scores_follow_the_merges() -> None:
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "b", "ab",
              "▁ab"]  # fmt: skip
    tokenizer = Tokenizer(
        models.BPE(
            {p: i for i, p in enumerate(pieces)}, [("a", "b"), ("▁", "ab")], byte_fallback=True
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace()
    found = vocabulary(tokenizer, num_rows=len(pieces))
    assert (found.model, found.add_prefix, found.unknown_id) == ("llama", True, 0)
    assert found.types[3:259] == [BYTE] * 256
    assert found.scores is not None
    assert found.scores[-2:] == [0, -1]
    assert set(found.scores[:-2]) == {-2}


def test_other_tokenizers_are_refused() -> None:
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(ModelError, match="WordLevel"):
        vocabulary(words)


def test_the_missing_package_is_named(
    model: Any, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match="GGUF") as caught:
        write_gguf(model, tokenizer, to=tmp_path / "model.gguf")
    assert "edgedistill[llm]" in str(caught.value)
