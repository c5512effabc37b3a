"""What a model reads in a text: tags, spans, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.runtime.extraction.grid import TokenGrid
from edgedistill.runtime.extraction.tagging import best_tags, spans_of, tag_probabilities


@dataclass(frozen=True)
class FoundSpan:
    """Characters `start` up to `end`, the field they are, and the probability of the least sure
    of their tokens."""

    field: int
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class Reading:
    """The spans of a text in its order, and the probability of its least sure tag."""

    spans: tuple[FoundSpan, ...]
    confidence: float


def read_tags(
    grid: TokenGrid, logits: np.ndarray, *, whole_words: bool, temperature: float = 1.0
) -> Reading:
    """Decode a text.

    Args:
        logits: of the grid's tokens with characters, float [n, tags], n ≥ 1.
        temperature: divides the logits before the softmax.
    """
    places = grid.places
    tags = best_tags(logits, grid.begins_word[places], whole_words=whole_words)
    sure = tag_probabilities(logits, tags, temperature)
    starts, ends = grid.starts[places], grid.ends[places]
    spans = tuple(
        FoundSpan(field, int(starts[first]), int(ends[last]), float(sure[first : last + 1].min()))
        for field, first, last in spans_of(tags)
    )
    return Reading(spans, float(sure.min()))


def labelled(spans: Sequence[FoundSpan], names: Sequence[str]) -> set[tuple[str, int, int]]:
    """(field, start, end) of spans, as they are compared."""
    return {(names[span.field], span.start, span.end) for span in spans}
