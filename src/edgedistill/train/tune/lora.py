"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on PEFT, and a merge that is checked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from edgedistill.core.errors import ModelError

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

#: From so many parameters on, rank 64; below a tenth of it, 16; else 32.
_LARGE = 1_000_000_000


class LoraConfig(BaseModel):
    """Adapters `alpha / rank · B A` beside each target; `default` chooses by a model's size."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    targets: Annotated[tuple[str, ...], Field(min_length=1)] = PROJECTIONS
    """Names of the linear layers that get adapters."""
    rank: Annotated[int, Field(ge=1)] = 64
    alpha: Annotated[float, Field(gt=0)] = 128.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @classmethod
    def default(cls, num_parameters: int) -> LoraConfig:
        """Rank 64 for a billion parameters and more, less for less; alpha is twice the rank."""
        if num_parameters >= _LARGE:
            return cls()
        rank = 32 if num_parameters >= _LARGE // 10 else 16
        return cls(rank=rank, alpha=2.0 * rank)


def with_adapters(
    model: nn.Module, config: LoraConfig, *, tokens: Sequence[int] = (), seed: int = 0
) -> PeftModel:
    """Put adapters on `model`, in place: its own weights are frozen, its answers unchanged.

    Args:
        tokens: ids whose rows in the token table (and in the head) are trained, too. A mark that
            pretraining never showed can be neither read nor written by adapters alone.

    Raises:
        ModelError: a target that the model has not.
    """
    names = {name.rpartition(".")[2] for name, part in model.named_modules()
             if isinstance(part, nn.Linear)}  # fmt: skip
    unknown = sorted(set(config.targets) - names)
    if unknown:
        raise ModelError(
            f"the model has no linear layer {unknown[0]!r} to adapt",
            fix=f"targets of: {', '.join(sorted(names))}",
        )
    wanted: Any = PeftLoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout,  # type: ignore[arg-type]
        target_modules=list(config.targets), task_type="CAUSAL_LM",
        trainable_token_indices=_tables(model, tokens),
    )  # fmt: skip
    given: Any = model
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT 0.21 asks transformers for a property by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(seed)
        adapted: PeftModel = get_peft_model(given, wanted)
    return adapted


def _tables(model: nn.Module, tokens: Sequence[int]) -> dict[str, list[int]] | None:
    """The tables in which the tokens have rows; a head that is the token table goes with it."""
    if not tokens:
        return None
    causal: Any = model
    tables = ["embed_tokens"] if causal.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    return {table: sorted(set(tokens)) for table in tables}


def merge_checked(
    model: PeftModel, golden_ids: Sequence[Sequence[int]], tolerance: float = 1e-3
) -> nn.Module:
    """The plain model with the adapters added into its weights, if it still says the same.

    `model` is used up: its layers become the merged ones.

    Args:
        golden_ids: token ids of texts to compare on.
        tolerance: largest difference of any logit.

    Raises:
        ModelError: a logit differs by more, or is not a number, or there is nothing to compare on.
    """
    rows = [torch.tensor([list(row)]) for row in golden_ids if len(row)]
    if not rows:
        raise ModelError("no golden texts to compare the merged model on")
    before = _logits(model, rows)
    whole: Any = model
    merged: nn.Module = whole.merge_and_unload()
    after = _logits(merged, rows)
    worst = max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True))
    # Written so that NaN does not pass.
    if not worst <= tolerance:
        raise ModelError(
            f"merging the adapters changed a logit by {worst:.3g}, {tolerance:.3g} is allowed",
            fix="merge in fp32, or ship the adapters beside the model",
        )
    return merged


@torch.inference_mode()
def _logits(model: nn.Module, rows: Sequence[Tensor]) -> list[Tensor]:
    model.eval()
    device = next(iter(model.parameters())).device
    return [model(input_ids=row.to(device)).logits.float() for row in rows]
