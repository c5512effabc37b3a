"""Run a model over many texts, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded


@torch.inference_mode()
def model_outputs(
    model: nn.Module,
    texts: Encoded,
    *,
    pad_id: int,
    batch_size: int = 128,
    precision: str = "fp32",
    progress: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(logits float32 [n, classes], features float32 [n, dim]) in the order of `texts`."""
    device = next(iter(model.parameters())).device
    was_training = model.training
    model.eval()
    order = np.argsort(texts.lengths, kind="stable")
    logits: np.ndarray | None = None
    features: np.ndarray | None = None
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = (torch.from_numpy(a).to(device) for a in texts.padded(rows, pad_id))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            output = model(ids, mask)
        if logits is None or features is None:
            logits = np.empty((len(order), output.logits.shape[1]), np.float32)
            features = np.empty((len(order), output.features.shape[1]), np.float32)
        logits[rows] = output.logits.float().cpu().numpy()
        features[rows] = output.features.float().cpu().numpy()
        if progress and start // batch_size % 20 == 19:
            progress(min(1.0, (start + batch_size) / len(order)))
    model.train(was_training)
    if logits is None or features is None:
        return np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
    return logits, features
