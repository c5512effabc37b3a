"""A network as its checkpoint has it: tensors with their names, shapes and what they are for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

Role = Literal["embedding", "position", "attention", "mlp", "head", "vector"]
"""What a tensor is for. `position` stands for all tables but that of tokens; `vector` for all
that is no matrix of weights: norms and biases. A tied token table is an `embedding`."""

MATRIX_ROLES: tuple[Role, ...] = ("embedding", "position", "attention", "mlp", "head")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint, named as in `transformers`."""

    name: str
    shape: tuple[int, ...]
    role: Role

    @property
    def num_weights(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class CacheLayer:
    """What one layer keeps of each token: keys and values of `width` numbers each.

    `window`: most tokens that it looks back to; None: all.
    """

    width: int
    window: int | None


@dataclass(frozen=True)
class Widths:
    """What the working memory of a forward pass depends on."""

    hidden: int
    attention: int
    """Queries, keys and values of one token."""
    heads: int
    feed_forward: int
    """Numbers between the feed-forward's matrices, for one token."""
    vocabulary: int
    """Columns of the logits over tokens; 0: the network has none."""


@dataclass(frozen=True)
class Network:
    """All that a plan needs of a model."""

    architecture: str
    """`model_type` of the config."""
    model_class: str
    tensors: tuple[Tensor, ...]
    cache: tuple[CacheLayer, ...]
    """Empty: an encoder, which keeps nothing."""
    widths: Widths
    max_positions: int
    num_blocks: int
    head_name: str | None
    """The tensor that makes the logits over tokens, None: no such head."""
    stored_as: str
    """Type of the checkpoint's numbers, as the config has it; float32 where it says nothing."""
    num_rotary_factors: int = 0
    """Numbers that a GGUF file has besides: by which the rotary frequencies are divided."""

    @property
    def is_causal(self) -> bool:
        """Whether it writes: it has a cache."""
        return bool(self.cache)

    @cached_property
    def num_parameters(self) -> int:
        """Weights of the checkpoint, each tensor once."""
        return sum(tensor.num_weights for tensor in self.tensors)

    @property
    def is_tied(self) -> bool:
        """Whether the token table is the head too."""
        return self.head_name is not None and not any(
            tensor.role == "head" and tensor.name == self.head_name for tensor in self.tensors
        )


def linear(
    name: str, rows: int, columns: int, role: Role, *, bias: bool = False
) -> Iterator[Tensor]:
    """A matrix [rows, columns] and, perhaps, its bias [rows]."""
    yield Tensor(f"{name}.weight", (rows, columns), role)
    if bias:
        yield Tensor(f"{name}.bias", (rows,), "vector")


def norm(name: str, width: int, *, bias: bool = False) -> Iterator[Tensor]:
    """The scale of a norm and, perhaps, its shift."""
    yield Tensor(f"{name}.weight", (width,), "vector")
    if bias:
        yield Tensor(f"{name}.bias", (width,), "vector")
