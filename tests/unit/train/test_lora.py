"""Adapters change nothing until trained, train alone, and merge into the same answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgedistill.core.errors import ModelError
from edgedistill.core.events import silent
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.sequences import SequenceSet
from edgedistill.train.tune.lora import PROJECTIONS, LoraConfig, merge_checked, with_adapters
from edgedistill.train.tune.next_token import NextToken, mean_loss

GOLDEN = [[1, 2, 3], [4, 5, 6, 7]]
DATA = SequenceSet.from_lists([[1, 2, 3, 4], [5, 6, 7]] * 6, [[True] * 4, [True] * 3] * 6, 0)


def small_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=9, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, initializer_range=0.3,
        tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    model.eval()
    return model(input_ids=torch.tensor(GOLDEN[1:])).logits


def test_adapters_train_alone_and_merge_into_the_same_answers(tmp_path: Path) -> None:
    model = small_model()
    plain, names = logits(model), {name for name, _ in model.named_parameters()}
    frozen = model.model.layers[0].mlp.up_proj.weight.clone()
    adapted = with_adapters(model, LoraConfig(rank=4, alpha=8.0))
    assert torch.equal(logits(adapted), plain)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * len(PROJECTIONS)
    before = mean_loss(adapted, DATA)
    train(
        adapted, NextToken(), DATA, score=lambda m: -mean_loss(m, DATA),
        config=LoopConfig(20, 5e-2, batch_size=16, patience=20), checkpoints=tmp_path,
        stage="test", listener=silent,
    )  # fmt: skip
    after = mean_loss(adapted, DATA)
    assert after < 0.7 * before
    adapters = logits(adapted)
    assert torch.equal(
        adapted.base_model.model.model.layers[0].mlp.up_proj.base_layer.weight, frozen
    )
    merged = merge_checked(adapted, GOLDEN, 1e-4)
    assert {name for name, _ in merged.named_parameters()} == names
    torch.testing.assert_close(logits(merged), adapters, rtol=1e-4, atol=1e-4)
    assert not torch.equal(merged.model.layers[0].mlp.up_proj.weight, frozen)


def test_a_merge_that_changes_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    adapted = with_adapters(small_model(), LoraConfig(rank=2))
    whole = adapted.merge_and_unload

    def broken() -> torch.nn.Module:
        merged = whole()
        with torch.no_grad():
            merged.model.norm.weight.mul_(1.5)
        return merged

    monkeypatch.setattr(adapted, "merge_and_unload", broken, raising=False)
    with pytest.raises(ModelError, match="changed a logit"):
        merge_checked(adapted, GOLDEN)
    with pytest.raises(ModelError, match="no golden texts"):
        merge_checked(with_adapters(small_model(), LoraConfig(rank=2)), [[]])
    poisoned = with_adapters(small_model(), LoraConfig(rank=2))
    with torch.no_grad():
        poisoned.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="nan"):
        merge_checked(poisoned, GOLDEN)


def test_unknown_targets_are_refused_and_defaults_follow_the_size() -> None:
    with pytest.raises(ModelError, match="no linear layer 'query'"):
        with_adapters(small_model(), LoraConfig(targets=("q_proj", "query")))
    sizes = [LoraConfig.default(n) for n in (10**7, 3 * 10**8, 10**9)]
    assert [(c.rank, c.alpha) for c in sizes] == [(16, 32.0), (32, 64.0), (64, 128.0)]
    assert sizes[-1] == LoraConfig()
