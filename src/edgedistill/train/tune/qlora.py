"""Adapters on a base of 4 bits (Dettmers et al. 2023, arXiv 2305.14314): QLoRA on bitsandbytes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import BitsAndBytesConfig, LlamaForCausalLM

from edgedistill.core.errors import MissingExtra, ModelError

#: Weights that share a scale.
BLOCK = 64


def load_in_4_bits(folder: Path, *, compute: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A Llama whose linear layers are stored as NormalFloat of 4 bits; table, head and norms fp32.

    Args:
        compute: what products are computed in.

    Raises:
        MissingExtra: bitsandbytes is not installed.
        ModelError: a layer whose rows are not whole blocks.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingExtra("training adapters on a base of 4 bits", "qlora")
    factory: Any = BitsAndBytesConfig
    stored = factory(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )  # fmt: skip
    # Training goes on where the model is; accelerate refuses to move one of 4 bits.
    place = {"device_map": {"": 0}} if torch.cuda.is_available() else {}
    model: Any = LlamaForCausalLM
    loaded: LlamaForCausalLM = model.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, attn_implementation="eager",
        dtype=torch.float32, quantization_config=stored, **place,
    )  # fmt: skip
    for name, part in loaded.named_modules():
        width = getattr(part, "in_features", BLOCK)
        if width % BLOCK and name != "lm_head":
            raise ModelError(
                f"{name} has rows of {width} weights, which blocks of {BLOCK} do not divide: "
                "bitsandbytes reads such rows wrongly on some machines",
                fix="adapters without quantised",
            )
        # For scoring on some CPUs bitsandbytes would turn its weights round, in place, which fails
        # for widths that its blocks do not divide, and rounds to bf16 what fp32 was asked for.
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False
    return loaded


@torch.no_grad()
def unpack(trained: PeftModel, plain: LlamaForCausalLM) -> LlamaForCausalLM:
    """`plain` with the weights that the adapters were trained beside, out of their 4 bits."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    whole: Any = trained
    targets = dict(plain.named_modules())
    for name, part in whole.base_model.model.named_modules():
        if isinstance(part, Linear4bit):
            own: Any = targets[name.removesuffix(".base_layer")]
            stored: Any = part.weight
            own.weight.copy_(dequantize_4bit(stored.data, stored.quant_state).to(own.weight))
    return plain


@torch.no_grad()
def take_adapters(trained: nn.Module, fresh: nn.Module) -> None:
    """Copy what was trained into the adapters of `fresh`, made by the same settings."""
    learned = {name: p for name, p in trained.named_parameters() if p.requires_grad}
    for name, parameter in fresh.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(learned[name])
