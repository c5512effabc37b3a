"""Texts at a boundary: made of texts that lie there, and of partners from its other side.

They do not keep an answer: the teacher answers them. Only ``random.Random`` decides.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np

from edgedistill.data.augmentation import (
    Admit,
    add_typo,
    collected,
    drop_words,
    mix_spans,
    shared_out,
)

#: Draws a text at the boundary, and a partner for it.
DrawPair: TypeAlias = Callable[[random.Random], tuple[str, str]]

_KINDS, _WEIGHTS = ("joined", "shortened", "mistyped"), (0.6, 0.25, 0.15)
_MOST_LEFT_OUT = 0.4


def near_boundary(logits: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The texts whose two likeliest answers are nearest to each other in probability.

    Args:
        logits: [n, classes], of at least two classes.
        share: of the texts, in (0, 1]; rounded up.

    Returns:
        Rows, nearest first, int64 [m]; of each the second likeliest class, int64 [m].
    """
    wide = np.asarray(logits, np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = np.arange(len(order))
    margin = probabilities[rows, order[:, 0]] - probabilities[rows, order[:, 1]]
    near = np.argsort(margin, kind="stable")[: math.ceil(share * len(order))]
    return near, order[near, 1]


def varied(text: str, partner: str, rng: random.Random) -> str:
    """A variant of a text: joined with a part of the partner, shortened, or mistyped."""
    kind = rng.choices(_KINDS, _WEIGHTS)[0]
    if kind == "joined":
        pair = (text, partner) if rng.random() < 0.5 else (partner, text)
        return mix_spans(*pair, rng)
    if kind == "shortened":
        return drop_words(text, rng.uniform(0, _MOST_LEFT_OUT), rng)
    return add_typo(text, rng)


def edge_cases(sources: Sequence[DrawPair], *, num: int, seed: int, admit: Admit) -> list[str]:
    """Up to `num` variants of texts at a boundary, in equal shares of the sources."""

    def draws(source: DrawPair, rng: random.Random) -> Iterator[str]:
        while True:
            yield varied(*source(rng), rng)

    found = list[str]()
    for place, share in enumerate(shared_out(num, len(sources))):
        rng = random.Random(f"{seed}/edge cases/{place}")
        found += collected(draws(sources[place], rng), num=share, admit=admit)
    return found
