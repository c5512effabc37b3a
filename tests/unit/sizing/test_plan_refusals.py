"""What a plan refuses, and what it takes that looks odd."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedistill.core.errors import ModelError, SpecError
from edgedistill.sizing.architectures.catalogue import ARCHITECTURES
from edgedistill.sizing.config_file import known_names, read_config
from edgedistill.sizing.plan import Wishes, make_plan
from small_config import LLAMA, network


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": ...}, "vocab_size is missing"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"vocab_size": "97"}, "vocab_size is '97'"),
        ({"hidden_size": -32}, "hidden_size is -32"),
        ({"hidden_size": 33}, "not whole"),
        ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'"),
        ({"architectures": ["LlamaForVision"]}, "LlamaForVision"),
        ({"architectures": "LlamaForCausalLM"}, "architectures is"),
        ({"model_type": "mamba"}, "architecture 'mamba' is not known"),
        ({"model_type": "gemma3", "text_config": {}}, "architecture 'gemma3' is not known"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers of 3"),
        ({"layer_types": ["linear_attention"] * 3}, "layer_types has linear_attention"),
        ({"layer_types": ["sliding_attention"] * 3}, "sliding_window is missing"),
        ({"model_type": "stablelm", "qk_layernorm": True}, "qk_layernorm is True"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as raised:
        network(**changes)
    assert "config.json" in str(raised.value)


def test_an_unknown_architecture_names_those_that_are_known() -> None:
    with pytest.raises(ModelError) as raised:
        network(model_type="gemma3", text_config={})
    assert all(name in str(raised.value) for name in ARCHITECTURES)
    assert "text_config" in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"a": 1}', '{"model_type": 3}',
                                  "[" * 100_000])  # fmt: skip
def test_what_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ModelError, match=str(file)):
        read_config(str(tmp_path))


def test_bytes_that_are_no_text_and_names_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(struct.pack("<I", 0xFFFFFFFF))
    with pytest.raises(ModelError, match="UTF-8"):
        read_config(str(file))
    with pytest.raises(SpecError, match=r"no such config\.json") as raised:
        read_config("llama-9")
    assert all(name in str(raised.value) for name in known_names())


def test_a_quantised_config_is_told(tmp_path: Path) -> None:
    values = LLAMA | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    plan = make_plan(str(tmp_path), Wishes())
    assert any("awq, 4 bits" in note for note in plan.notes)
    assert plan.chosen.scheme == "bf16"


def test_a_tokenizer_beside_the_config_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    without = make_plan(str(tmp_path), Wishes())
    (tmp_path / "tokenizer.json").write_text("x" * 1000)
    beside = make_plan(str(tmp_path), Wishes())
    assert beside.chosen.disk_bytes == without.chosen.disk_bytes + 1000
    assert any("tokenizer" in note for note in without.notes)
    assert not any("tokenizer" in note for note in beside.notes)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(max_mb=0), Wishes(max_mb=-1), Wishes(max_mb=float("nan")),
        Wishes(max_memory_mb=float("inf")), Wishes(context=0), Wishes(scheme="int3"),
        Wishes(precision="q2_k"), Wishes(draft_scheme="fp16"), Wishes(draft="all-minilm-l6-v2"),
        Wishes(other_mb=-1), Wishes(other_mb=float("nan")),
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense_are_refused(wishes: Wishes) -> None:
    with pytest.raises(SpecError):
        make_plan("gpt2", wishes)


def test_an_encoder_has_no_cache_and_no_gguf() -> None:
    for wishes in (Wishes(scheme="gguf_q4_k"), Wishes(precision="f16")):
        with pytest.raises(SpecError):
            make_plan("all-minilm-l6-v2", wishes)
    plan = make_plan("all-minilm-l6-v2", Wishes())
    assert plan.cache == []
    assert plan.chosen.precision is None


def test_a_huge_context_is_arithmetic_all_the_same() -> None:
    plan = make_plan("llama-3.1-8b", Wishes(context=10**15, precision="f16"))
    assert plan.chosen.memory.cache_bytes == 131_072 * 10**15
    assert any("131,072 tokens" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("gemma-2-2b", "onnx_int8", "onnx_int8 is written of a LlamaForCausalLM without biases"),
        ("all-minilm-l6-v2", "onnx_int4", "is written of a LlamaForCausalLM"),
        ("llama-3.1-8b", "onnx_int8", "onnx_int8 has 9,03. MB, and an ONNX file holds 2,146"),
        ("llama-3.2-1b", "onnx_gptq_int4", "made of a file with layers in fp32, here 4,18. MB"),
    ],
)
def test_an_onnx_file_that_would_not_be_written_is_not_planned(
    name: str, kind: str, told: str
) -> None:
    with pytest.raises(SpecError, match=told) as caught:
        make_plan(name, Wishes(scheme=kind))
    assert "fp16" in caught.value.fix
    assert kind not in caught.value.fix
    assert kind not in [each.name for each, _ in make_plan(name, Wishes()).sizes]


def test_a_draft_is_refused_where_its_scheme_is() -> None:
    with pytest.raises(SpecError, match="onnx_int4 is written of") as caught:
        make_plan("llama-3.2-1b", Wishes(draft="qwen2.5-0.5b", draft_scheme="onnx_int4"))
    assert caught.value.where == "--draft-scheme"
    both = Wishes(draft="qwen2.5-0.5b", scheme="onnx_int8")
    with pytest.raises(SpecError, match="onnx_int8 is the draft's too, and is written of"):
        make_plan("llama-3.2-1b", both)
    assert make_plan("llama-3.2-1b", replace(both, draft_scheme="int8")).chosen.parts
    found = make_plan("llama-3.2-1b", replace(both, scheme=None, max_mb=3000)).feasible
    assert found
    assert not any(each.scheme.startswith("onnx") for each in found)


def test_keys_and_values_beside_an_onnx_file_are_told_of() -> None:
    told = "note: ONNX files keep keys and values in f32"
    for precision, is_told in (("f32", False), ("f16", True)):
        plan = make_plan("smollm2-135m", Wishes(scheme="onnx_awq_int4", precision=precision))
        assert any(f"note: {note}".startswith(told) for note in plan.notes) == is_told
