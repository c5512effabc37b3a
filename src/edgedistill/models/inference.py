"""Run a model over many texts, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import ModelOutput


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
    logits: np.ndarray | None = None
    features: np.ndarray | None = None
    done = 0
    for rows, _, output in _outputs(model, texts, pad_id, batch_size, precision):
        if logits is None or features is None:
            logits = np.empty((len(texts), output.logits.shape[1]), np.float32)
            features = np.empty((len(texts), output.features.shape[1]), np.float32)
        logits[rows] = output.logits.float().cpu().numpy()
        features[rows] = output.features.float().cpu().numpy()
        done += len(rows)
        if progress and done // batch_size % 20 == 0:
            progress(min(1.0, done / len(texts)))
    if logits is None or features is None:
        return np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
    return logits, features


@torch.inference_mode()
def token_outputs(
    model: nn.Module,
    texts: Encoded,
    *,
    pad_id: int,
    batch_size: int = 64,
    precision: str = "fp32",
) -> tuple[np.ndarray, np.ndarray]:
    """(logits float32 [num_tokens, tags], features float32 [n, dim]) of a tagger, in the order of
    `texts.ids` and of `texts`."""
    found = tagger_outputs(model, texts, pad_id=pad_id, batch_size=batch_size, precision=precision)
    return found[:2]


@torch.inference_mode()
def tagger_outputs(
    model: nn.Module,
    texts: Encoded,
    *,
    pad_id: int,
    batch_size: int = 64,
    precision: str = "fp32",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same, and what it says of the labels of whole texts, float32 [n, values]; no columns
    where it has none."""
    found: list[np.ndarray] = []
    for rows, mask, output in _outputs(model, texts, pad_id, batch_size, precision):
        values = output.features[:, :0] if output.label_logits is None else output.label_logits
        parts = (output.logits[mask.bool()], output.features, values)
        sizes = (len(texts.ids), len(texts), len(texts))
        found = found or [
            np.empty((size, part.shape[1]), np.float32)
            for size, part in zip(sizes, parts, strict=True)
        ]
        tokens = np.concatenate([np.arange(texts.starts[r], texts.starts[r + 1]) for r in rows])
        for whole, places, part in zip(found, (tokens, rows, rows), parts, strict=True):
            whole[places] = part.float().cpu().numpy()
    tags, features, labels = found or [np.empty((0, 0), np.float32)] * 3
    return tags, features, labels


def _outputs(
    model: nn.Module, texts: Encoded, pad_id: int, batch_size: int, precision: str
) -> Iterator[tuple[np.ndarray, torch.Tensor, ModelOutput]]:
    """(rows, mask, what the model returns) of batches of like length."""
    device = next(iter(model.parameters())).device
    was_training = model.training
    model.eval()
    order = np.argsort(texts.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = (torch.from_numpy(a).to(device) for a in texts.padded(rows, pad_id))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            output = model(ids, mask)
        yield rows, mask, output
    model.train(was_training)
