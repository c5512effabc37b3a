"""Beam search: several continuations at once; the likeliest finished one is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.runtime.generation.constraint import Constraint
from edgedistill.runtime.generation.onnx_network import Cache, OnnxNetwork
from edgedistill.runtime.generation.sampling import log_softmax
from edgedistill.runtime.generation.token_text import TextStream


@dataclass(frozen=True)
class Beam:
    """One continuation.

    `total`: sum of log p of its tokens. `row`: of the cache and of the log-odds, which stand
    before its last token. `constraint`: where it stands in the grammar, if there is one.
    """

    ids: tuple[int, ...]
    total: float
    row: int
    constraint: Constraint | None

    def score(self, length_penalty: float) -> float:
        """What finished continuations are compared by."""
        return self.total / float(len(self.ids) ** length_penalty)


@dataclass(frozen=True)
class BeamSearch:
    """Follows `num_beams` continuations, as `transformers` does with `early_stopping` False.

    A continuation that ends is set aside with its score; the search is over when `num_beams` are,
    and the best that still runs scores no better than the worst of them, or at the limit.

    Args:
        network: what gives log-odds.
        spelled: bytes of each id.
        num_beams, length_penalty, max_new_tokens, stop: see `LanguageSession.generate`.
    """

    network: OnnxNetwork
    spelled: Sequence[bytes]
    num_beams: int
    length_penalty: float
    max_new_tokens: int
    stop: Sequence[str]

    def best(self, logits: np.ndarray, cache: Cache, constraint: Constraint | None) -> Beam:
        """The best continuation of a prompt that was read: its log-odds and its cache."""
        running, finished = [Beam((), 0.0, 0, constraint)], list[Beam]()
        logits = logits[None]
        while True:
            candidates = self._candidates(running, logits)
            ended = [self._ends(beam) for beam in candidates]
            likeliest = zip(candidates[: self.num_beams], ended[: self.num_beams], strict=True)
            finished += [beam for beam, is_over in likeliest if is_over]
            finished = sorted(finished, key=self._score, reverse=True)[: self.num_beams]
            pairs = zip(candidates, ended, strict=True)
            running = [beam for beam, is_over in pairs if not is_over][: self.num_beams]
            if not running or (
                len(finished) == self.num_beams
                and self._score(running[0]) <= self._score(finished[-1])
            ):
                return finished[0]
            running, logits, cache = self._step(running, cache)

    def _score(self, beam: Beam) -> float:
        return beam.score(self.length_penalty)

    def _candidates(self, running: Sequence[Beam], logits: np.ndarray) -> list[Beam]:
        """The likeliest next steps of all beams, best first; enough that some go on."""
        totals = log_softmax(logits)
        for row, beam in enumerate(running):
            if beam.constraint is not None:
                totals[row, ~beam.constraint.allowed()] = -np.inf
            totals[row] += beam.total
        num_kept = max(2, 1 + len(self.network.end_ids)) * self.num_beams
        flat = totals.ravel()
        order = np.argsort(-flat, kind="stable")[:num_kept]
        rows, tokens = np.divmod(order, totals.shape[1])
        return [
            Beam(
                (*running[row].ids, int(token)), float(flat[at]), int(row), running[row].constraint
            )
            for at, row, token in zip(order, rows, tokens, strict=True)
            if np.isfinite(flat[at])
        ]

    def _ends(self, beam: Beam) -> bool:
        if beam.ids[-1] in self.network.end_ids or len(beam.ids) == self.max_new_tokens:
            return True
        if not self.stop:
            return False
        stream = TextStream(self.spelled, self.stop)
        return any(stream.take(token) for token in beam.ids)

    def _step(self, running: Sequence[Beam], cache: Cache) -> tuple[list[Beam], np.ndarray, Cache]:
        """The network reads the last token of each beam."""
        rows = np.array([beam.row for beam in running])
        last = np.array([[beam.ids[-1]] for beam in running], np.int64)
        logits, cache = self.network.read(last, [part[rows] for part in cache])
        moved = []
        for row, beam in enumerate(running):
            constraint = beam.constraint.copy() if beam.constraint is not None else None
            if constraint is not None:
                constraint.take(beam.ids[-1])
            moved.append(Beam(beam.ids, beam.total, row, constraint))
        return moved, logits[:, -1], cache
