"""How much each input of a linear layer is used: mean squares over texts of the task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from edgedistill.core.errors import ModelError


@torch.inference_mode()
def mean_squared_inputs(
    model: LlamaForCausalLM, rows: Iterable[Sequence[int]]
) -> dict[str, np.ndarray]:
    """Mean squared input of every linear layer, by its name in the model; float64 [width].

    The diagonal of E[x xᵀ]: with it, a squared error of a weight counts what it adds to the
    squared error of the layer's output, were inputs uncorrelated. The head is among the layers,
    also where its weights are the token table. Rows run one by one and only sums are kept; the
    same rows give the same numbers.

    Args:
        rows: token ids; each is cut to the model's context, empty ones are passed over.

    Raises:
        ModelError: no rows, or activations that are not finite.
    """
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    sums = {
        name: torch.zeros(part.in_features, dtype=torch.float64) for name, part in layers.items()
    }

    def adds(into: Tensor) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            into.add_(inputs[0].double().square().flatten(0, -2).sum(0).cpu())

        return hook

    hooks = [part.register_forward_hook(adds(sums[name])) for name, part in layers.items()]
    was_training, num_tokens = model.training, 0
    model.train(False)
    try:
        for row in rows:
            ids = list(row)[: model.config.max_position_embeddings]
            if ids:
                model(input_ids=torch.tensor([ids]).to(model.device), use_cache=False)
                num_tokens += len(ids)
    finally:
        for handle in hooks:
            handle.remove()
        model.train(was_training)
    if not num_tokens:
        raise ModelError("importance is measured on texts, and no text is given")
    wrong = [name for name, total in sums.items() if not torch.isfinite(total).all()]
    if wrong:
        raise ModelError(f"inputs of {wrong[0]} are not finite on the calibration texts")
    return {name: (total / num_tokens).numpy() for name, total in sums.items()}
