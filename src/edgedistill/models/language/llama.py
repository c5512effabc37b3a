"""Build, save and load Llamas of transformers: one file of weights and one of configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging_untyped

from edgedistill.core.errors import ModelError
from edgedistill.core.files import write_bytes
from edgedistill.models.language.config import LanguageModelConfig
from edgedistill.models.language.tokenizer import LanguageTokenizer

transformers_logging: Any = transformers_logging_untyped
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

#: Fused attention is slow on a CPU: several times so on short batches, more yet in bf16.
ATTENTION = "eager"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def build(
    config: LanguageModelConfig, tokenizer: LanguageTokenizer, *, seed: int = 0
) -> LlamaForCausalLM:
    """A Llama of random weights for the ids of `tokenizer`; the same seed, the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = empty(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=config.hidden_size,
                num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
                num_key_value_heads=config.kv_heads, intermediate_size=config.feed_forward,
                max_position_embeddings=config.max_positions,
                tie_word_embeddings=config.tied_embeddings, bos_token_id=tokenizer.bos,
                eos_token_id=tokenizer.end, pad_token_id=tokenizer.pad, rms_norm_eps=1e-5,
            )
        )  # fmt: skip
        _initialise(model)
    return model


def empty(config: LlamaConfig) -> LlamaForCausalLM:
    """A Llama of this configuration, in fp32, whose weights mean nothing yet."""
    config._attn_implementation = ATTENTION
    config.dtype = torch.float32
    config.architectures = ["LlamaForCausalLM"]
    model = LlamaForCausalLM(config)
    model.train(False)
    return model


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Write weights and configuration; a head that is the token table is not written again."""
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    # As a cut of another tensor, one would be written with all of it.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    write_bytes(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_bytes(folder / CONFIG, model.config.to_json_string(use_diff=False).encode())


def load_model(folder: Path) -> LlamaForCausalLM:
    """Read what `save_model` or transformers wrote, as fp32.

    Raises:
        ModelError: no such model, one of another family, or weights that do not fit it.
    """
    where = str(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if not isinstance(config, LlamaConfig):
            raise ModelError(
                f"a {config.model_type!r} model is no Llama", where=where,
                fix="use a model of the Llama family",
            )  # fmt: skip
        factory: Any = LlamaForCausalLM
        model, loading = factory.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True,
            attn_implementation=ATTENTION, dtype=torch.float32,
        )  # fmt: skip
    # RuntimeError: tensors of other shapes than the config says.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model cannot be loaded ({type(error).__name__}: {error})", where=where
        ) from error
    # transformers would fill what is missing with random numbers.
    wrong = sorted({*loading["missing_keys"], *loading["unexpected_keys"]})
    if wrong:
        raise ModelError(
            f"weights and configuration differ in {len(wrong)} tensors, {wrong[0]} among them",
            where=where,
            fix="save configuration and weights together",
        )
    loaded: LlamaForCausalLM = model
    loaded.train(False)
    return loaded


def _initialise(model: LlamaForCausalLM) -> None:
    """Matrices with std sqrt(2 / 5h), those that add to the stream less by sqrt(2 · layers).

    Small initialisation (Nguyen & Salazar 2019, arXiv 1910.05895, section 2.3), and GPT-2's
    scaling of what each layer adds (Radford et al. 2019, section 2.3).
    """
    deviation = math.sqrt(2 / (5 * model.config.hidden_size))
    added = deviation / math.sqrt(2 * model.config.num_hidden_layers)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear) and name != "lm_head":
            writes = name.endswith(("o_proj", "down_proj"))
            nn.init.normal_(module.weight, std=added if writes else deviation)
    if not model.config.tie_word_embeddings:
        nn.init.normal_(model.lm_head.weight, std=0.02)
