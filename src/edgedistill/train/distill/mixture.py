"""Several teachers' answers as one: a mixture of their distributions, weighted text by text.

A mean of distributions (Hinton et al. 2015, arXiv 1503.02531, section 1; You et al. 2017, "Learning
from multiple teacher networks", equation 4), at temperature 1. What students learn from are logits,
which say more than a distribution: their energy, by which out-of-bounds texts are told apart. A
constant in one teacher's logits means nothing beside another's, so the first teacher's energy is
kept. Teachers that say the same are therefore mixed into the first one's logits.

All in float64; a text is a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

#: How sure a teacher counts at least: where all are at a loss, their other weights decide.
LEAST_CERTAINTY = 1e-6


def told_of_labels(logits: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """What a teacher says of the task's labels, as log-probabilities [n, labels].

    Args:
        logits: [n, classes], in the teacher's own order.
        groups: of each label of the task, the classes whose probabilities are added up; none
            where the teacher does not know the label.

    Returns:
        A distribution over the labels that it knows: other classes are left out. -inf elsewhere.
    """
    wide = np.asarray(logits, np.float64)
    told = np.full((len(wide), len(groups)), -np.inf)
    for label, classes in enumerate(groups):
        if classes:
            told[:, label] = logsumexp(wide[:, list(classes)], axis=1)
    known = [label for label, classes in enumerate(groups) if classes]
    told[:, known] = log_softmax(told[:, known], axis=1)
    return told


def completed(told: np.ndarray, first: np.ndarray) -> np.ndarray:
    """`told` [n, labels] with the first teacher's belief in the labels that it does not know.

    With U those labels: p(c) = first(c) in U, and (1 - first(U)) told(c) outside.
    """
    unknown = np.isneginf(told).all(0)
    if not unknown.any():
        return told
    share = logsumexp(first[:, ~unknown], axis=1, keepdims=True)
    return np.asarray(np.where(unknown, first, told + share))


def certainty(answers: np.ndarray) -> np.ndarray:
    """How sure a teacher is of each text, [n]: 1 - entropy / log(labels) of [n, labels]
    log-probabilities. 1 for a single label, 0 for all alike. One label alone is sure."""
    if answers.shape[1] < 2:
        return np.ones(len(answers))
    probabilities = np.exp(answers)
    surprise = np.where(probabilities > 0, -answers, 0.0)
    entropy = (probabilities * surprise).sum(1)
    return np.asarray(np.clip(1.0 - entropy / np.log(answers.shape[1]), 0.0, 1.0))


def accuracy(told: np.ndarray, targets: np.ndarray) -> float:
    """Share of right answers to the texts whose labels a teacher knows; 0 where there are none.

    Args:
        told: [n, labels], as `told_of_labels` gives it.
        targets: int64 [n].
    """
    known = np.asarray(~np.isneginf(told).all(0))
    is_known = known[targets]
    right = told[is_known].argmax(1) == targets[is_known]
    return float(right.mean()) if len(right) else 0.0


def above_chance(told: np.ndarray, targets: np.ndarray) -> float:
    """How far `accuracy` lies above chance among the labels that a teacher knows; 0 below it."""
    num_known = int((~np.isneginf(told).all(0)).sum())
    return max(0.0, accuracy(told, targets) - 1.0 / num_known)


def shares(weights: Sequence[float], answers: Sequence[np.ndarray], *, by_text: bool) -> np.ndarray:
    """Each teacher's share in each text's mixture, [teachers, n]; over teachers they sum to 1.

    Args:
        weights: not negative, not all 0.
        by_text: whether each weight is multiplied by how sure the teacher is of the text.
    """
    given = np.repeat(np.asarray(weights, np.float64)[:, None], len(answers[0]), axis=1)
    if by_text:
        given = given * np.stack([certainty(each) for each in answers]).clip(min=LEAST_CERTAINTY)
    return np.asarray(given / given.sum(0))


def mixed(first_logits: np.ndarray, answers: Sequence[np.ndarray], share: np.ndarray) -> np.ndarray:
    """The mixture as logits [n, labels], with the energy of the first teacher's.

    Args:
        first_logits: [n, labels].
        answers: of each teacher, log-probabilities [n, labels].
        share: [teachers, n], as `shares` gives them.
    """
    with np.errstate(divide="ignore"):
        weighted = np.log(share)[:, :, None] + np.stack(answers)
    energy = logsumexp(np.asarray(first_logits, np.float64), axis=1, keepdims=True)
    return np.asarray(logsumexp(weighted, axis=0) + energy)
