"""How far two models are apart in what they hold likely next, token by token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

#: Tokens whose log-probabilities are compared one by one; all others are one event.
NUM_LIKELIEST = 64
#: Least probability of that event: what float32 leaves of a difference to 1.
_LEAST = 1e-7

Likeliest = Sequence[Mapping[int, float]]
"""For each token, log-probabilities by id of at least the likeliest next ones."""


def divergence(reference: Likeliest, other: Likeliest) -> float:
    """Mean Kullback-Leibler divergence KL(reference ‖ other), in nats a token.

    Of distributions over the tokens that both name and one event for all the rest: never more than
    the divergence over the whole vocabulary (data-processing inequality), and near it, since the
    rest is unlikely.

    Raises:
        ValueError: unequal or empty sequences.
    """
    if not reference:
        raise ValueError("no tokens to compare")
    pairs = zip(reference, other, strict=True)
    return sum(_of_token(first, second) for first, second in pairs) / len(reference)


def _of_token(first: Mapping[int, float], second: Mapping[int, float]) -> float:
    shared = first.keys() & second.keys()
    found = sum(math.exp(first[i]) * (first[i] - second[i]) for i in shared)
    rest, other_rest = (
        max(_LEAST, 1.0 - sum(math.exp(values[i]) for i in shared)) for values in (first, second)
    )
    return max(0.0, found + rest * math.log(rest / other_rest))
