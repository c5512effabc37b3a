"""What a network tells of its inside beside its answer: hidden states, attention maps, vectors.

Layers are counted from 0. By signal, of one layer and a batch of ``b`` texts of ``s`` tokens:
states ``[b, s, h]``; attention maps ``[b, heads, s, s]``, each row a distribution over the tokens
that are looked at; queries, keys and values ``[b, heads, s, d]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgedistill.core.errors import MissingSignal
from edgedistill.core.protocols import ModelOutput, Signal

#: Encoders whose layers have the form that hooks and truncated students rely on.
ENCODERS = ("bert", "roberta", "xlm-roberta", "camembert")
#: The part of a layer's attention that makes each kind of vector.
_VECTORS = {Signal.QUERIES: "query", Signal.KEYS: "key", Signal.VALUES: "value"}


@dataclass(frozen=True)
class NetworkShape:
    """Layers, width of their states, and heads of their attention."""

    num_layers: int
    hidden_size: int
    num_heads: int
    head_size: int

    @classmethod
    def of_encoder(cls, config: Mapping[str, Any]) -> NetworkShape:
        """The shape that the config.json of an encoder tells.

        Raises:
            MissingSignal: it is of a family whose inside is not known here.
        """
        if config.get("model_type") not in ENCODERS:
            raise MissingSignal(
                f"the inside of a {config.get('model_type')!r} encoder cannot be read",
                where="distillation.strategy",
                fix=f"take a teacher of one of {', '.join(ENCODERS)}, or the strategy response",
            )
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        return cls(int(config["num_hidden_layers"]), hidden, heads, hidden // heads)

    def widths(self, signal: Signal) -> tuple[tuple[int, ...], int | None]:
        """Of a layer's signal: the axes before that of tokens, and the width after it.

        None: as wide as there are tokens.
        """
        if signal is Signal.STATES:
            return (), self.hidden_size
        width = None if signal is Signal.ATTENTIONS else self.head_size
        return (self.num_heads,), width


class TellsInside(Protocol):
    """A student that can be asked for what it computed on the way to its answer."""

    def read(
        self, input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[ModelOutput, Mapping[Signal, Sequence[Tensor]]]: ...


@torch.no_grad()
def teacher_internals(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    layers: Mapping[Signal, Sequence[int]],
) -> dict[Signal, Tensor]:
    """Signals of chosen layers of a teacher, float32 ``[b, len(layers), …]``.

    Args:
        model: a classifier with an ``encoder`` of one of the families `ENCODERS`.
        layers: of each signal that is asked for, the layers.
    """
    encoder = model.encoder
    with _vectors(encoder, layers) as vectors:
        output = encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=Signal.STATES in layers,
            output_attentions=Signal.ATTENTIONS in layers,
        )
    found: dict[Signal, Sequence[Tensor]] = {**vectors}
    if Signal.STATES in layers:
        # The first are the embeddings.
        found[Signal.STATES] = [output.hidden_states[layer + 1] for layer in layers[Signal.STATES]]
    if Signal.ATTENTIONS in layers:
        asked = layers[Signal.ATTENTIONS]
        found[Signal.ATTENTIONS] = [output.attentions[layer] for layer in asked]
    return {signal: torch.stack(list(each), 1).float() for signal, each in found.items()}


@contextmanager
def _vectors(
    encoder: Any, layers: Mapping[Signal, Sequence[int]]
) -> Iterator[dict[Signal, list[Tensor]]]:
    """Filled, as the encoder runs, with queries, keys and values of the layers asked for."""
    heads = encoder.config.num_attention_heads
    found: dict[Signal, list[Tensor]] = {s: [] for s in _VECTORS if s in layers}

    def keep(signal: Signal, module: nn.Module, given: Any, output: Tensor) -> None:
        batch, length, _ = output.shape
        found[signal].append(output.view(batch, length, heads, -1).transpose(1, 2))

    hooks = [
        getattr(encoder.encoder.layer[layer].attention.self, _VECTORS[signal])
        .register_forward_hook(partial(keep, signal))
        for signal in found
        for layer in layers[signal]
    ]  # fmt: skip
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
