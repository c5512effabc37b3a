"""Relation distillation: match how the teacher's tokens relate to each other (MiniLM)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgedistill.core.errors import SpecError
from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import RelationSettings
from edgedistill.models.internals import NetworkShape
from edgedistill.train.distill.layer_map import layer_pairs
from edgedistill.train.distill.seen import Seen, token_mean

#: What each relation is between.
SIDES = {
    "attention": (Signal.QUERIES, Signal.KEYS),
    "query": (Signal.QUERIES, Signal.QUERIES),
    "key": (Signal.KEYS, Signal.KEYS),
    "value": (Signal.VALUES, Signal.VALUES),
}


class Relation:
    """Divergence of scaled, normalised dot products between tokens; no widths have to agree.

    Attention and value relations: MiniLM, Wang et al. 2020, arXiv 2002.10957, equations 6 to 9.
    Queries and keys with themselves, and heads of relations that are not those of attention:
    MiniLMv2, Wang et al. 2020, arXiv 2012.15828, equations 5 to 7. Where student and teacher have
    as many heads, the attention relation is the attention map.
    """

    learned: nn.Module | None = None

    def __init__(
        self, settings: RelationSettings, student: NetworkShape, teacher: NetworkShape
    ) -> None:
        self.kinds = settings.of
        self.needs = settings.internals
        self.layers = layer_pairs(settings.layers, student.num_layers, teacher.num_layers)
        self.num_heads = settings.num_heads or math.gcd(student.num_heads, teacher.num_heads)
        for whose, shape in (("student", student), ("teacher", teacher)):
            inner = shape.num_heads * shape.head_size
            if inner % self.num_heads:
                raise SpecError(
                    f"num_heads: the {whose}'s inner width of {inner} cannot be cut into "
                    f"{self.num_heads}",
                    fix="take a divisor of both widths, or leave num_heads out",
                )

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        """A term a relation: mean over pairs of layers, heads, and all real tokens."""
        return {kind: self._of_kind(kind, seen) for kind in self.kinds}

    def _of_kind(self, kind: str, seen: Seen) -> Tensor:
        mask, (left, right) = seen.batch.attention_mask, SIDES[kind]
        distances = []
        for student, teacher in self.layers:
            both = zip(
                seen.pair(left, student, teacher), seen.pair(right, student, teacher), strict=True
            )
            ours, theirs = (
                relations(regrouped(a, self.num_heads), regrouped(b, self.num_heads), mask)
                for a, b in both
            )
            divergence = (theirs.exp() * (theirs - ours)).sum(-1)
            distances.append(token_mean(divergence, mask))
        return torch.stack(distances).mean()


def regrouped(vectors: Tensor, num_heads: int) -> Tensor:
    """Vectors [b, heads, s, d], heads side by side, cut anew: [b, num_heads, s, heads d / n]."""
    batch, _, length, _ = vectors.shape
    joined = vectors.transpose(1, 2).reshape(batch, length, num_heads, -1)
    return joined.transpose(1, 2)


def relations(left: Tensor, right: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax of scaled dot products over real tokens: [b, n, s, d] twice gives [b, n, s, s].

    Tokens that are none get a log-probability so low that their probability is 0.
    """
    scores = left @ right.transpose(-1, -2) / math.sqrt(left.shape[-1])
    # Finite, so that differences of two such rows are 0 and not a nan.
    scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e9)
    return scores.log_softmax(-1)
