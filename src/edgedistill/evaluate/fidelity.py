"""The fidelity ledger: one golden set through every hop, so that a hop that breaks is named."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgedistill.core.errors import VerificationFailed
from edgedistill.evaluate.metrics import accuracy

_ROUNDING = 1e-9


@dataclass(frozen=True)
class HopBars:
    """What a hop must keep; None: not asked.

    `agreement`: least share of answers equal to the previous hop's. `score_drop`: most accuracy
    lost against the previous hop. `logit_difference`: largest change of any logit.
    """

    agreement: float | None = None
    score_drop: float | None = None
    logit_difference: float | None = None


@dataclass(frozen=True)
class Hop:
    """One station of the model on its way to the device.

    `agreement` and `logit_difference` compare with the previous hop (None at the first hop, and
    where a hop gives no comparable logits), `agreement_with_first` with the first. `score` is
    accuracy on the golden set. `note` says why it does not hold, or what the reader should know.

    Of models that write: `perplexity` of the right answers, by how much it is higher than at the
    hop that this one is compared with, and `divergence` from that hop (KL, nats a token).
    """

    name: str
    agreement: float | None
    agreement_with_first: float | None
    score: float
    logit_difference: float | None
    holds: bool
    note: str = ""
    perplexity: float | None = None
    perplexity_change: float | None = None
    divergence: float | None = None


class Ledger:
    """Answers of every hop on the same golden rows, each compared with the one before.

    Args:
        targets: label indices of the golden rows, int [num_rows].
    """

    def __init__(self, targets: ArrayLike) -> None:
        self._targets = np.asarray(targets, dtype=np.int64)
        if self._targets.ndim != 1 or not len(self._targets):
            raise ValueError("a ledger needs at least one golden row")
        self._hops: list[Hop] = []
        self._predictions: list[np.ndarray] = []
        self._logits: np.ndarray | None = None

    @property
    def hops(self) -> tuple[Hop, ...]:
        """The hops so far, in order."""
        return tuple(self._hops)

    @property
    def num_rows(self) -> int:
        """Golden rows."""
        return len(self._targets)

    def record(
        self,
        name: str,
        predictions: ArrayLike,
        *,
        logits: ArrayLike | None = None,
        bars: HopBars | None = None,
        note: str = "",
    ) -> Hop:
        """Enter a hop.

        Args:
            name: e.g. `teacher`, `student`, `int8`, `bundle`; unique in the ledger.
            predictions: label indices, int [num_rows]; -1 for no answer.
            logits: float [num_rows, num_classes], where the hop gives them.
            bars: what the hop must keep.
            note: kept beside the reasons for a break.
        """
        answers = np.asarray(predictions, dtype=np.int64)
        outputs = None if logits is None else np.asarray(logits, dtype=np.float64)
        if answers.shape != self._targets.shape:
            raise ValueError(f"hop {name!r}: {len(answers)} answers for {self.num_rows} rows")
        if outputs is not None and (outputs.ndim != 2 or len(outputs) != self.num_rows):
            raise ValueError(f"hop {name!r}: logits of shape {outputs.shape}")
        if any(hop.name == name for hop in self._hops):
            raise ValueError(f"hop {name!r} is recorded already")
        hop = self._compared(name, answers, outputs, bars or HopBars(), note)
        self._hops.append(hop)
        self._predictions.append(answers)
        self._logits = outputs
        return hop

    def _compared(
        self, name: str, answers: np.ndarray, outputs: np.ndarray | None, bars: HopBars, note: str
    ) -> Hop:
        score = accuracy(self._targets, answers)
        agreement = accuracy(self._predictions[-1], answers) if self._hops else None
        with_first = accuracy(self._predictions[0], answers) if self._hops else None
        difference = self._logit_difference(outputs)
        drop = self._hops[-1].score - score if self._hops else None
        reasons = [
            _reason("agreement", agreement, bars.agreement, at_least=True),
            _reason("accuracy lost", drop, bars.score_drop, at_least=False),
            _reason("logit difference", difference, bars.logit_difference, at_least=False),
        ]
        if outputs is not None and not np.isfinite(outputs).all():
            reasons.append("logits that are not finite")
        broken = [reason for reason in reasons if reason]
        text = "; ".join([*broken, note] if note else broken)
        return Hop(name, agreement, with_first, score, difference, not broken, text)

    def _logit_difference(self, outputs: np.ndarray | None) -> float | None:
        before = self._logits
        if outputs is None or before is None or outputs.shape != before.shape:
            return None
        difference = float(np.max(np.abs(outputs - before)))
        return difference if np.isfinite(difference) else None

    def broken(self) -> Hop | None:
        """The first hop that does not hold."""
        return next((hop for hop in self._hops if not hop.holds), None)

    def require_whole(self) -> None:
        """Raise VerificationFailed naming the first hop that breaks, if any does."""
        if hop := self.broken():
            raise VerificationFailed(
                f"fidelity breaks at hop {hop.name!r}: {hop.note}",
                fix="look at what this hop changes: every hop before it holds",
            )

    def as_json(self) -> list[dict[str, Any]]:
        """The hops as plain values."""
        return [asdict(hop) for hop in self._hops]


def _reason(what: str, value: float | None, bar: float | None, *, at_least: bool) -> str:
    if bar is None or value is None:
        return ""
    # A share that equals its bar must not fail by rounding.
    short = bar - value if at_least else value - bar
    if short <= _ROUNDING:
        return ""
    return f"{what} {value:.4g}, {'at least' if at_least else 'at most'} {bar:.4g} required"
