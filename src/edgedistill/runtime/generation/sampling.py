"""Log-odds to the next token: the likeliest, or one drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural log-probabilities, float64, over the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


@dataclass(frozen=True)
class Sampler:
    """Chooses tokens: the likeliest at temperature 0, of equals the first; otherwise by chance.

    `random`: numpy's PCG64, whose stream is the same everywhere.
    `top_p`: draw from the likeliest tokens that together have this probability (nucleus sampling,
    Holtzman et al. 2020, arXiv 1904.09751), after the temperature.
    """

    temperature: float
    top_p: float
    random: np.random.Generator

    def choose(self, logits: np.ndarray) -> int:
        """A token by its log-odds [vocabulary]; -inf is never chosen."""
        if self.temperature == 0:
            return int(logits.argmax())
        # Shifted before it is divided: a temperature near 0 must not make inf - inf.
        scaled = (logits.astype(np.float64) - logits.max()) / self.temperature
        weights = np.exp(scaled)
        order = np.argsort(-weights, kind="stable")
        mass = np.cumsum(weights[order])
        num_kept = 1 + int(np.searchsorted(mass, self.top_p * mass[-1]))
        mass = mass[:num_kept]
        drawn = int(np.searchsorted(mass, self.random.random() * mass[-1], side="right"))
        return int(order[min(drawn, len(mass) - 1)])
