"""Spans of characters as begin-inside-outside tags of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedistill.core.extraction import Span
from edgedistill.runtime.extraction.grid import TokenGrid
from edgedistill.runtime.extraction.tagging import OUTSIDE, begin_tag

#: The tag of a token that no one has labelled, or that stands for no characters.
NO_TAG = -1


class OffGridError(ValueError):
    """A span begins or ends within a token."""


def tags_of_spans(
    grid: TokenGrid, spans: Sequence[Span], fields: Sequence[str], text: str
) -> np.ndarray:
    """The tag of each token of a grid, int64 [s]; -1 for tokens without characters.

    Raises:
        OffGridError: a span begins or ends within a token, or has none.
    """
    tags = np.where(grid.is_content, OUTSIDE, NO_TAG).astype(np.int64)
    index = {name: begin_tag(place) for place, name in enumerate(fields)}
    for span in spans:
        overlaps = grid.is_content & (grid.starts < span.end) & (grid.ends > span.start)
        places = np.flatnonzero(overlaps)
        if not len(places):
            raise OffGridError(f"{_shown(text, span)} has no token: the tokenizer does not read it")
        first, last = places[0], places[-1]
        if grid.starts[first] != span.start or grid.ends[last] != span.end:
            edge = first if grid.starts[first] != span.start else last
            token = text[grid.starts[edge] : grid.ends[edge]]
            raise OffGridError(f"{_shown(text, span)} begins or ends within the token {token!r}")
        tags[places] = index[span.label] + 1
        tags[first] = index[span.label]
    return tags


def keeps_words_whole(grid: TokenGrid, tags: np.ndarray) -> bool:
    """Whether no span of a text begins or ends within a word."""
    places = grid.places
    inner = np.flatnonzero(~grid.begins_word[places])
    inner = inner[inner > 0]
    now, before = tags[places][inner], tags[places][inner - 1]
    goes_on = (now > 0) & (now % 2 == 0)
    return bool((goes_on | ((now == OUTSIDE) & (before == OUTSIDE))).all())


def _shown(text: str, span: Span) -> str:
    return f"the {span.label} {text[span.start : span.end][:40]!r}"
