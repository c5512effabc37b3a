"""Llamas are built as told, saved whole, and students cut out of them are what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from edgedistill.core.errors import ModelError
from edgedistill.models.language.config import LanguageModelConfig
from edgedistill.models.language.cut import SliceConfig
from edgedistill.models.language.llama import build, load_model, save_model
from edgedistill.models.language.slicing import slice_model
from edgedistill.models.language.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["where is my order"], 261)
IDS = torch.tensor([[0, 30, 40, 50, 60, 7, 3]])
CALIBRATION = [row.tolist() for row in np.random.default_rng(0).integers(0, 261, (6, 20))]


def small(*, tied: bool = True, **changes: Any) -> LlamaForCausalLM:
    shape = {
        "hidden_size": 32, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2,
        "intermediate_size": 40, "max_positions": 24, "tied_embeddings": tied, **changes,
    }  # fmt: skip
    return build(LanguageModelConfig(**shape), TOKENIZER)


@torch.no_grad()
def logits(model: LlamaForCausalLM) -> torch.Tensor:
    return model(IDS).logits


@pytest.mark.parametrize("tied", [True, False])
def test_built_as_configured_and_counted_exactly(tied: bool) -> None:
    config = LanguageModelConfig(
        hidden_size=48, num_layers=3, num_heads=6, num_kv_heads=3, tied_embeddings=tied
    )
    model = build(config, TOKENIZER)
    assert sum(p.numel() for p in model.parameters()) == config.num_parameters(len(TOKENIZER))
    assert model.config.intermediate_size == 256
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    assert model.config._attn_implementation == "eager"
    ids = (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert ids == (TOKENIZER.bos, TOKENIZER.end, TOKENIZER.pad)


def test_same_seed_same_weights_and_the_generator_is_left_alone() -> None:
    config = LanguageModelConfig(hidden_size=16, num_layers=1, num_heads=2)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, other, another = (build(config, TOKENIZER, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(logits(one), logits(other))
    assert not torch.equal(logits(one), logits(another))


def test_an_untrained_model_says_nothing_yet() -> None:
    spread = logits(small()).log_softmax(-1) + np.log(len(TOKENIZER))
    assert spread.abs().max() < 1.0


@pytest.mark.parametrize("shape", [{"num_heads": 3}, {"num_heads": 4, "num_kv_heads": 3},
                                   {"hidden_size": 4, "num_heads": 4}])  # fmt: skip
def test_shapes_that_do_not_divide_are_refused(shape: dict[str, int]) -> None:
    with pytest.raises(pydantic.ValidationError):
        LanguageModelConfig(**shape)


@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_loaded_to_the_bit(tied: bool, tmp_path: Path) -> None:
    model = small(tied=tied)
    save_model(model, tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    with safe_open(tmp_path / "model.safetensors", "pt") as stream:
        assert ("lm_head.weight" in stream.keys()) is not tied  # noqa: SIM118
    loaded = load_model(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.config._attn_implementation == "eager"
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is tied


def test_what_is_not_a_whole_llama_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path / "nothing")
    save_model(small(), tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = load_file(weights)
    part = {name: t for name, t in whole.items() if name != "model.norm.weight"}
    save_file(part, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight"):
        load_model(tmp_path)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="'gpt2' model is no Llama"):
        load_model(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("config", [
    SliceConfig(),
    SliceConfig(layers=(0, 1, 2, 3), hidden_size=32, num_heads=4, num_kv_heads=2,
                intermediate_size=40),
])  # fmt: skip
def test_cut_with_everything_the_student_is_the_teacher(tied: bool, config: SliceConfig) -> None:
    teacher = small(tied=tied)
    student = slice_model(teacher, config)
    assert torch.equal(logits(student), logits(teacher))
    assert (student.lm_head.weight is student.model.embed_tokens.weight) is tied
    with torch.no_grad():
        student.model.embed_tokens.weight.zero_()
    assert not torch.equal(logits(student), logits(teacher))


@pytest.mark.parametrize("tied", [True, False])
def test_units_that_do_nothing_are_cut_without_a_trace(tied: bool) -> None:
    """Half of every width is dead: the student without it says the same."""
    teacher = small(tied=tied, num_heads=8, num_kv_heads=4)
    rng = np.random.default_rng(1)
    alive = {k: torch.from_numpy(np.sort(rng.permutation(n)[: n // 2]))
             for k, n in {"hidden": 32, "units": 40, "groups": 4}.items()}  # fmt: skip
    with torch.no_grad():
        dead = torch.ones(32, dtype=torch.bool).index_fill(0, alive["hidden"], False)
        teacher.model.embed_tokens.weight[:, dead] = 0
        teacher.lm_head.weight[:, dead] = 0
        for layer in teacher.model.layers:
            attention, feed = layer.self_attn, layer.mlp
            for out in (attention.o_proj, feed.down_proj):
                out.weight[dead] = 0
            idle = torch.ones(40, dtype=torch.bool).index_fill(0, alive["units"], False)
            feed.up_proj.weight[idle] = 0
            mute = torch.ones(4, dtype=torch.bool).index_fill(0, alive["groups"], False)
            attention.v_proj.weight[mute.repeat_interleave(4)] = 0
        # The norm takes its mean over half as many units, of which none is dead.
        scaled = slice_model(
            teacher,
            SliceConfig(hidden_size=16, num_heads=4, num_kv_heads=2, intermediate_size=20),
            CALIBRATION,
        )
        for name, norm in scaled.named_modules():
            if name.endswith("norm"):
                norm.weight *= 2**0.5
                norm.variance_epsilon *= 2
    assert scaled.config.head_dim == 4
    torch.testing.assert_close(logits(scaled), logits(teacher), rtol=1e-4, atol=1e-5)


def test_within_a_group_the_best_heads_are_kept() -> None:
    teacher = small(num_heads=8, num_kv_heads=2)
    heads = [1, 2, 4, 7]
    with torch.no_grad():
        for layer in teacher.model.layers:
            mute = torch.ones(8, dtype=torch.bool)
            mute[heads] = False
            layer.self_attn.o_proj.weight[:, mute.repeat_interleave(4)] = 0
            # Groups share values, so a head is told from others by where it looks.
            layer.self_attn.q_proj.weight[mute.repeat_interleave(4)] = 0
    student = slice_model(teacher, SliceConfig(num_heads=4), CALIBRATION)
    assert student.model.layers[0].self_attn.q_proj.weight.shape == (16, 32)
    # Each student head is one of its own group, whichever was most active.
    for old, new in zip(teacher.model.layers, student.model.layers, strict=True):
        before, after = (m.self_attn.q_proj.weight.reshape(-1, 4, 32) for m in (old, new))
        places = [[i for i in range(8) if torch.equal(before[i], after[j])] for j in range(4)]
        assert all(place for place in places)
        assert all(set(place) & set(range(4 * (j // 2), 4 * (j // 2) + 4))
                   for j, place in enumerate(places))  # fmt: skip


def test_layers_are_taken_in_the_order_given_and_the_student_saves(tmp_path: Path) -> None:
    teacher = small()
    student = slice_model(teacher, SliceConfig(layers=(3, 1)))
    for new, old in enumerate((3, 1)):
        assert torch.equal(
            student.model.layers[new].mlp.up_proj.weight,
            teacher.model.layers[old].mlp.up_proj.weight,
        )
    save_model(student, tmp_path)
    assert torch.equal(logits(load_model(tmp_path)), logits(student))


def test_the_teacher_is_left_as_it_is() -> None:
    teacher = small()
    before = logits(teacher)
    teacher.train()
    student = slice_model(teacher, SliceConfig(hidden_size=16), CALIBRATION)
    assert teacher.training
    assert not any(module._forward_hooks for module in teacher.modules())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    teacher.eval()
    assert torch.equal(logits(teacher), before)


@pytest.mark.parametrize(("config", "told"), [
    (SliceConfig(layers=(0, 4)), "4 layers"),
    (SliceConfig(hidden_size=64), "hidden_size is 32"),
    (SliceConfig(num_heads=3), "3 heads cannot be cut out in 2 groups"),
    (SliceConfig(num_heads=4, num_kv_heads=1), "2 groups of 2"),
    (SliceConfig(hidden_size=30), "does not divide by 4 heads"),
    (SliceConfig(num_kv_heads=3), "num_key_value_heads is 2"),
    (SliceConfig(intermediate_size=20), "no text is given"),
])  # fmt: skip
def test_what_cannot_be_cut_is_refused(config: SliceConfig, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        slice_model(small(), config)
