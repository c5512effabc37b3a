"""A student cut out of a Llama: some of its layers, and of each the parts that do most.

What a part does is the mean size of its activations on texts of the task (Muralidharan et al.
2024, arXiv 2407.14679, section 2.2): of the norms' outputs for hidden units, of what the heads
give to the output projection, of the gated products for feed-forward units. With all layers and
full width the student *is* the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from edgedistill.core.errors import ModelError
from edgedistill.models.language.cut import SliceConfig, kept_shape
from edgedistill.models.language.llama import empty


@dataclass(frozen=True)
class _Importance:
    """Sums of absolute activations: of hidden units [h]; a layer: of heads [heads], units [i]."""

    hidden: Tensor
    heads: dict[int, Tensor]
    units: dict[int, Tensor]


def slice_model(
    teacher: LlamaForCausalLM, config: SliceConfig, calibration: Sequence[Sequence[int]] = ()
) -> LlamaForCausalLM:
    """Cut a student out of `teacher`, which is left as it is.

    Args:
        calibration: token ids of texts of the task; some are needed where a width is cut.

    Raises:
        ModelError: the teacher has no such layer or is not so wide, heads do not divide into
            groups, or a width is to be cut without texts.
    """
    layers, shape = kept_shape(teacher.config, config)
    importance = None
    if shape != kept_shape(teacher.config, SliceConfig())[1]:
        importance = _importance(teacher, [row for row in calibration if len(row)])
    full: dict[str, Any] = teacher.config.to_dict()
    student = empty(LlamaConfig(**{**full, **shape, "num_hidden_layers": len(layers)}))
    kept = _kept(importance.hidden if importance else None, shape["hidden_size"])
    source, target = teacher.model, student.model
    _copy(source.embed_tokens, target.embed_tokens, columns=kept)
    _copy_norm(source.norm, target.norm, kept)
    for new, old in enumerate(layers):
        _copy_layer(source.layers[old], target.layers[new], importance, old, kept, shape)
    # A head that is the table has been cut with it.
    if not teacher.config.tie_word_embeddings:
        _copy(teacher.lm_head, student.lm_head, columns=kept)
    return student


@torch.inference_mode()
def _importance(teacher: LlamaForCausalLM, texts: Sequence[Sequence[int]]) -> _Importance:
    """Run the texts, one by one, through the teacher, and sum up what its parts do."""
    if not texts:
        raise ModelError("a width is cut by what the units do on texts, and no text is given")
    found = _Importance(torch.zeros(teacher.config.hidden_size), {}, {})
    hooks = []

    def adds(into: Tensor, per: int, *, output: bool) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            seen = (result if output else inputs[0]).float().abs().flatten(0, -2).sum(0)
            into.add_(seen.reshape(-1, per).sum(1).cpu())

        return hook

    norms = [module for name, module in teacher.model.named_modules() if name.endswith("norm")]
    for norm in norms:
        hooks.append(norm.register_forward_hook(adds(found.hidden, 1, output=True)))
    for number, layer in enumerate(teacher.model.layers):
        attention, feed = layer.self_attn, layer.mlp
        found.heads[number] = torch.zeros(teacher.config.num_attention_heads)
        found.units[number] = torch.zeros(teacher.config.intermediate_size)
        for module, into, per in (
            (attention.o_proj, found.heads[number], attention.head_dim),
            (feed.down_proj, found.units[number], 1),
        ):
            hooks.append(module.register_forward_hook(adds(into, per, output=False)))
    was_training = teacher.training
    teacher.train(False)
    try:
        device = teacher.device
        for row in texts:
            ids = torch.tensor([list(row)[: teacher.config.max_position_embeddings]])
            teacher.model(input_ids=ids.to(device), use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
        teacher.train(was_training)
    return found


def _kept(importance: Tensor | None, num: int) -> Tensor:
    """Numbers of the `num` most important, ascending; of equals, the first."""
    if importance is None:
        return torch.arange(num)
    return importance.argsort(descending=True, stable=True)[:num].sort().values


def _copy_layer(
    source: Any,
    target: Any,
    importance: _Importance | None,
    number: int,
    kept: Tensor,
    shape: dict[str, int],
) -> None:
    """Copy the kept heads, units and hidden units of one layer."""
    attention = source.self_attn
    groups = shape["num_key_value_heads"]
    heads, kv_heads = _kept_heads(
        importance.heads[number] if importance else None,
        attention.num_key_value_groups, shape["num_attention_heads"], groups,
    )  # fmt: skip
    queries, keys = (_units_of(which, attention.head_dim) for which in (heads, kv_heads))
    units = _kept(importance.units[number] if importance else None, shape["intermediate_size"])
    new = target.self_attn
    _copy(attention.q_proj, new.q_proj, rows=queries, columns=kept)
    _copy(attention.k_proj, new.k_proj, rows=keys, columns=kept)
    _copy(attention.v_proj, new.v_proj, rows=keys, columns=kept)
    _copy(attention.o_proj, new.o_proj, rows=kept, columns=queries)
    _copy(source.mlp.gate_proj, target.mlp.gate_proj, rows=units, columns=kept)
    _copy(source.mlp.up_proj, target.mlp.up_proj, rows=units, columns=kept)
    _copy(source.mlp.down_proj, target.mlp.down_proj, rows=kept, columns=units)
    _copy_norm(source.input_layernorm, target.input_layernorm, kept)
    _copy_norm(source.post_attention_layernorm, target.post_attention_layernorm, kept)


def _kept_heads(
    importance: Tensor | None, a_group: int, num_heads: int, num_groups: int
) -> tuple[Tensor, Tensor]:
    """(query heads, key-value heads): the best groups, and as many of the best heads of each."""
    if importance is None:
        return torch.arange(num_heads), torch.arange(num_groups)
    by_group = importance.reshape(-1, a_group)
    groups = _kept(by_group.sum(1), num_groups)
    many = num_heads // num_groups
    heads = [int(group) * a_group + _kept(by_group[group], many) for group in groups]
    return torch.cat(heads), groups


def _units_of(heads: Tensor, size: int) -> Tensor:
    return (heads[:, None] * size + torch.arange(size)).flatten()


def _copy(
    source: Any, target: Any, *, rows: Tensor | None = None, columns: Tensor | None = None
) -> None:
    """Copy the chosen rows and columns of a weight, and of a bias where there is one."""
    with torch.no_grad():
        weight = source.weight if rows is None else source.weight[rows]
        target.weight.copy_(weight if columns is None else weight[:, columns])
        bias = getattr(source, "bias", None)
        if bias is not None:
            target.bias.copy_(bias if rows is None else bias[rows])


def _copy_norm(source: Any, target: Any, kept: Tensor) -> None:
    with torch.no_grad():
        target.weight.copy_(source.weight[kept])
