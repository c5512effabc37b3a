"""What a report shows of the original and of every version that was made of it, as frozen values.

Shares lie in [0, 1]; bytes are those of model and tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.core.artefacts import Interval


@dataclass(frozen=True)
class Version:
    """A file that could ship, measured on validation rows in the runtime that ships.

    `of`: the student it is made of, `passes`: what was done to it. `times_faster`: p50 of the
    student in full precision over its own, timed in turn. `retention`: share of the score in full
    precision that it keeps, paired by row. `agreement`: share of answers that it leaves as full
    precision gives them, `least_agreement`: what the fidelity ledger asks of the file that ships.
    `kept`: of the versions of its student. `chosen`: ships. `on_front`: no other version is at
    least as good in score, bytes and p95 and better in one.
    """

    of: str
    passes: str
    size_bytes: int
    p50_ms: float
    p95_ms: float
    times_faster: float
    score: float
    agreement: float
    least_agreement: float
    retention: Interval | None = None
    kept: bool = False
    chosen: bool = False
    on_front: bool = False

    @property
    def name(self) -> str:
        """Student and passes."""
        return f"{self.of}, {self.passes}"

    @property
    def breaks(self) -> bool:
        """Whether it changes more answers than the fidelity ledger lets pass."""
        return self.agreement < self.least_agreement


@dataclass(frozen=True)
class Versions:
    """All of a run.

    `original`: what they are compared with in bytes (the teacher's file); `original_score`: its
    score on the same rows, None where it was not asked. `bytes_by_pass`: of the file that ships,
    (what was done, bytes after it), full precision first. `score`: what the scores are.
    """

    rows: tuple[Version, ...]
    original: str
    original_bytes: int
    original_p95_ms: float
    original_score: float | None
    bytes_by_pass: tuple[tuple[str, int], ...]
    score: str = "accuracy"
