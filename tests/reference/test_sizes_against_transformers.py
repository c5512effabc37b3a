"""Names, shapes and bytes of checkpoints against what `transformers` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from transformers import AutoConfig

from edgedistill.core.errors import ModelError
from edgedistill.sizing.architectures.catalogue import ARCHITECTURES, network_of
from edgedistill.sizing.config_file import known_names, read_config
from edgedistill.sizing.network import Network
from edgedistill.sizing.schemes import scheme

IDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ENCODER: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 64, **IDS,
}  # fmt: skip
DECODER: dict[str, Any] = ENCODER | {"num_key_value_heads": 2}
OWN_DIM = DECODER | {"head_dim": 16}
EXPERTS = {"num_experts": 3, "num_local_experts": 3, "moe_intermediate_size": 16}
DEBERTA = ENCODER | {
    "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
}  # fmt: skip
#: The smallest of each architecture, and the flags that change its tensors.
SMALL: dict[str, tuple[dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "llama": (DECODER, ({"tie_word_embeddings": True}, {"attention_bias": True},
                        {"mlp_bias": True}, {"head_dim": 16})),
    "mistral": (DECODER, ({"tie_word_embeddings": True},)),
    "mixtral": (DECODER | EXPERTS, ()),
    "qwen2": (DECODER, ({"tie_word_embeddings": True},)),
    "qwen3": (OWN_DIM, ({"attention_bias": True},)),
    "qwen3_moe": (OWN_DIM | EXPERTS, ()),
    "gemma": (OWN_DIM, ({"tie_word_embeddings": False},)),
    "gemma2": (OWN_DIM, ({"attention_bias": True},)),
    "gemma3_text": (OWN_DIM, ()),
    "phi": (DECODER, ({"tie_word_embeddings": True},)),
    "phi3": (DECODER, ({"tie_word_embeddings": True},)),
    "olmo": (DECODER, ()),
    "olmo2": (DECODER, ({"attention_bias": True},)),
    "smollm3": (DECODER, ({"tie_word_embeddings": False},)),
    "granite": (DECODER, ({"mlp_bias": True},)),
    "starcoder2": (DECODER, ({"use_bias": False},)),
    "stablelm": (DECODER, ({"use_qkv_bias": True}, {"use_parallel_residual": True})),
    "cohere": (DECODER, ()),
    "gpt2": ({"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **IDS},
             ({"n_inner": 40}, {"tie_word_embeddings": False})),
    "gpt_neox": (ENCODER, ({"attention_bias": False}, {"tie_word_embeddings": True})),
    "opt": (ENCODER | {"ffn_dim": 48, "word_embed_proj_dim": 32},
            ({"word_embed_proj_dim": 16}, {"do_layer_norm_before": False})),
    "bert": (ENCODER, ({"tie_word_embeddings": False},)),
    "roberta": (ENCODER, ({"tie_word_embeddings": False},)),
    "camembert": (ENCODER, ()),
    "xlm-roberta": (ENCODER | {"type_vocab_size": 1}, ()),
    "electra": (ENCODER | {"embedding_size": 16}, ({"embedding_size": 32},)),
    "mpnet": (ENCODER, ()),
    "albert": (ENCODER | {"embedding_size": 16}, ({"num_hidden_groups": 2},)),
    "deberta-v2": (DEBERTA, ({"type_vocab_size": 2}, {"position_biased_input": True})),
    "distilbert": ({"vocab_size": 97, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48,
                    "max_position_embeddings": 64, **IDS}, ()),
    "modernbert": (ENCODER, ({"norm_bias": True, "attention_bias": True, "mlp_bias": True},
                             {"classifier_bias": True})),
}  # fmt: skip
CLASSES = ("AutoModel", "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForPreTraining",
           "AutoModelForSequenceClassification", "AutoModelForTokenClassification",
           "AutoModelForQuestionAnswering")  # fmt: skip
#: Heads that plan refuses by name.
REFUSED = {
    "GPT2ForTokenClassification", "GPTNeoXForTokenClassification", "AlbertForPreTraining",
    "BertLMHeadModel", "RobertaForCausalLM", "CamembertForCausalLM", "XLMRobertaForCausalLM",
    "ElectraForCausalLM",
}  # fmt: skip
ENCODERS = {"bert", "roberta", "camembert", "xlm-roberta", "electra", "mpnet", "albert",
            "deberta-v2", "distilbert", "modernbert"}  # fmt: skip


def of_meta(config: Any, class_name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return getattr(transformers, class_name)(config)


#: What transformers renames as it saves.
SAVED_AS = {("gpt_neox", "lm_head.weight"): "embed_out.weight"}


def saved_shapes(model: torch.nn.Module, kind: str) -> dict[str, tuple[int, ...]]:
    """Tensors that a checkpoint holds: of those that are one, the source alone."""
    tied = model.all_tied_weights_keys
    held = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    return {SAVED_AS.get((kind, name), name): tuple(held[name].shape) for name in held}


def test_every_architecture_is_tried() -> None:
    assert set(SMALL) == set(ARCHITECTURES)


def variants(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(auto class, config) pairs: every class with the plain config, every flag with a head."""
    plain, flags = SMALL[kind]
    for auto in CLASSES:
        yield auto, plain
    head = "AutoModelForMaskedLM" if kind in ENCODERS else "AutoModelForCausalLM"
    for flag in flags:
        yield head, plain | flag


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_names_and_shapes_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    tried = 0
    for auto, values in variants(kind):
        config = AutoConfig.for_model(kind, **values)
        mapping = getattr(transformers, auto)._model_mapping
        if type(config) not in mapping:
            continue
        class_name = mapping[type(config)]
        class_name = (class_name[0] if isinstance(class_name, tuple) else class_name).__name__
        config.architectures = [class_name]
        config.save_pretrained(tmp_path)
        is_reader = class_name.endswith("ForQuestionAnswering") and kind not in ENCODERS
        if class_name in REFUSED or is_reader:
            with pytest.raises(ModelError, match=class_name):
                network_of(read_config(str(tmp_path)))
            continue
        planned = {each.name: each.shape for each in network_of(read_config(str(tmp_path))).tensors}
        built = saved_shapes(of_meta(config, class_name), kind)
        if kind in ("mixtral", "qwen3_moe"):  # in memory the experts of a block are one tensor
            assert total(planned) == total(built), (class_name, values)
        else:
            assert planned == built, (class_name, values)
        tried += 1
    assert tried >= 2


def total(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(torch.Size(shape).numel()) for shape in shapes.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["llama", "qwen3_moe", "bert", "gpt2", "modernbert"])
def test_a_written_file_has_the_planned_bytes(kind: str, dtype: str, tmp_path: Path) -> None:
    """Header and all, and so does the list of tensors with their experts."""
    config = AutoConfig.for_model(kind, **SMALL[kind][0])
    auto = transformers.AutoModelForMaskedLM if kind in ("bert", "modernbert") else (
        transformers.AutoModelForCausalLM
    )  # fmt: skip
    auto.from_config(config, dtype=getattr(torch, dtype)).save_pretrained(tmp_path)
    network = network_of(read_config(str(tmp_path)))
    assert network.stored_as == dtype
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        written = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert {each.name: each.shape for each in network.tensors} == written
    planned = scheme({"float32": "fp32", "bfloat16": "bf16"}[dtype]).store(network)
    assert planned.size_bytes == (tmp_path / "model.safetensors").stat().st_size


@pytest.mark.parametrize("name", known_names())
def test_public_models_have_the_parameters_that_transformers_gives_them(name: str) -> None:
    """Built on the meta device, without weights."""
    config = read_config(name)
    values = dict(config.values)
    built = saved_shapes(of_meta(AutoConfig.for_model(**values), values["architectures"][0]), "")
    network = network_of(config)
    assert {each.name: each.shape for each in network.tensors} == built
    assert [layer.window for layer in network.cache] == windows_of(network, values)


def windows_of(network: Network, values: dict[str, Any]) -> list[int | None]:
    """By `layer_types` and `sliding_window` of the configuration class."""
    if not network.is_causal:
        return []
    config = AutoConfig.for_model(**json.loads(json.dumps(values)))
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if kinds is None:
        kinds = ["sliding_attention"] * network.num_blocks
    return [window if kind == "sliding_attention" else None for kind in kinds]
