"""Mean squared inputs against activations that are all kept, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgedistill.core.errors import ModelError
from edgedistill.models.language.importance import mean_squared_inputs

ROWS = [[1, 2, 3, 4, 5], [6], [7, 8, 1], []]


def small_model(*, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=9, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, initializer_range=0.3,
        tie_word_embeddings=tied, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_it_is_the_mean_of_squares_over_all_tokens(tied: bool) -> None:
    model = small_model(tied=tied).eval()
    found = mean_squared_inputs(model, ROWS)
    assert len(found) == 2 * 7 + 1
    hidden = [model.model(input_ids=torch.tensor([row])).last_hidden_state[0]
              for row in ROWS if row]  # fmt: skip
    head = torch.cat(hidden).double().square().mean(0)
    np.testing.assert_allclose(found["lm_head"], head, rtol=1e-5)
    first = [model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.tensor(row)))
             for row in ROWS if row]  # fmt: skip
    squares = torch.cat(first).double().square().mean(0)
    for part in ("q_proj", "k_proj", "v_proj"):
        np.testing.assert_allclose(found[f"model.layers.0.self_attn.{part}"], squares, rtol=1e-5)
    assert found["model.layers.1.mlp.down_proj"].shape == (24,)


def test_rows_are_cut_to_the_context_and_order_does_not_matter() -> None:
    model = small_model()
    long = [1, 2, 3, 4] * 10
    cut = mean_squared_inputs(model, [long, [5, 6]])
    same = mean_squared_inputs(model, [[5, 6], long[:16]])
    for name, squares in cut.items():
        np.testing.assert_allclose(squares, same[name], rtol=1e-12)
    again = mean_squared_inputs(model, [long, [5, 6]])
    assert all(np.array_equal(cut[name], again[name]) for name in cut)


def test_the_model_is_left_as_it_was() -> None:
    model = small_model().train()
    mean_squared_inputs(model, ROWS)
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        mean_squared_inputs(model, ROWS)
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("rows", [[], [[], []]])
def test_without_texts_there_is_no_importance(rows: list[list[int]]) -> None:
    with pytest.raises(ModelError, match="no text"):
        mean_squared_inputs(small_model(), rows)
