"""The weights of an ensemble's vote: those under which the labels are likeliest.

Over the simplex both losses are convex in the weights: of averaged probabilities
-mean log sum_k w_k p_k(label) (stacked densities, Smyth & Wolpert 1999), of averaged logits the
cross-entropy of softmax(sum_k w_k z_k). Exponentiated gradients (Kivinen & Warmuth 1997) stay
inside the simplex by themselves; a step that would not lower the loss is shortened.

All in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

#: Below this share a member costs its bytes and changes no answer: it is left out.
LEAST_SHARE = 0.01
#: Steps end where no step lowers the loss (nats a text) by more.
LEAST_GAIN = 1e-10
MOST_STEPS = 2000

#: Of weights [members]: the loss, and its slope by each weight.
Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def averaged(logits: np.ndarray, weights: np.ndarray, average: str) -> np.ndarray:
    """Logits [n, classes] of the weighted mean of `logits` [members, n, classes], as
    `models.students.ensemble` computes it.

    Args:
        average: `probabilities` or `logits`.
    """
    wide, shares = np.asarray(logits, np.float64), np.asarray(weights)[:, None, None]
    if average == "logits":
        return np.asarray((shares * wide).sum(0))
    energies = logsumexp(wide, axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        mixed = logsumexp(np.log(shares) + wide - energies, axis=0)
    return np.asarray(mixed + (shares * energies).sum(0))


def loss_of_weights(logits: np.ndarray, targets: np.ndarray, average: str) -> Loss:
    """The mean negative log-likelihood of the labels as a function of the weights.

    Args:
        logits: [members, n, classes]. targets: int64 [n].
    """
    wide = np.asarray(logits, np.float64)
    rows = np.arange(len(targets))
    told = log_softmax(wide, axis=-1)[:, rows, targets]
    given = wide[:, rows, targets]

    def of_probabilities(weights: np.ndarray) -> tuple[float, np.ndarray]:
        with np.errstate(divide="ignore"):
            mixed = logsumexp(np.log(weights)[:, None] + told, axis=0)
        return float(-mixed.mean()), -np.exp(told - mixed).mean(1)

    def of_logits(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = (weights[:, None, None] * wide).sum(0)
        expected = (softmax(mixed, axis=-1) * wide).sum(-1).mean(1)
        loss = -log_softmax(mixed, axis=-1)[rows, targets].mean()
        return float(loss), expected - given.mean(1)

    return of_logits if average == "logits" else of_probabilities


def vote_weights(logits: np.ndarray, targets: np.ndarray, average: str) -> np.ndarray:
    """The weights [members] of sum 1 under which the labels are likeliest.

    Members that say the same share alike. What would weigh less than LEAST_SHARE gets nothing.

    Raises:
        ValueError: answers that are no numbers, or no rows.
    """
    if not len(targets) or not np.isfinite(logits).all():
        raise ValueError("weights need rows, and answers that are numbers")
    loss = loss_of_weights(logits, targets, average)
    weights = _lowest(loss, np.full(len(logits), 1.0 / len(logits)))
    weights[weights < LEAST_SHARE] = 0.0
    return np.asarray(weights / weights.sum())


def _lowest(loss: Loss, weights: np.ndarray) -> np.ndarray:
    """Where on the simplex the loss is lowest, from inside it."""
    rate = 1.0
    value, slope = loss(weights)
    for _ in range(MOST_STEPS):
        # Slopes relative to their mean: a constant moves nothing on the simplex.
        lean = slope - weights @ slope
        gain = 0.0
        while rate > 1e-12:
            moved = weights * np.exp(np.clip(-rate * lean, -30.0, 30.0))
            moved = moved / moved.sum()
            next_value, next_slope = loss(moved)
            # Half of what the slope promises (Armijo): a step too long promises more.
            if next_value <= value + 0.5 * slope @ (moved - weights):
                gain = value - next_value
                break
            rate /= 4.0
        if gain <= LEAST_GAIN:
            break
        value, slope, weights, rate = next_value, next_slope, moved, 2.0 * rate
    return weights
