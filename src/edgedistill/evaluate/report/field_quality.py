"""What a report shows of the fields of an extraction."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldQuality:
    """One field of an extraction on the test texts, before fields abstain.

    `partial_f1` counts overlapping spans; `normalised`: share of the bundle's spans whose words
    give a value (None: it found none).
    """

    name: str
    num_expected: int
    precision: float
    recall: float
    f1: float
    partial_f1: float
    teacher_f1: float
    normalised: float | None = None


@dataclass(frozen=True)
class FieldsSummary:
    """Every field, and what withholding unsure spans does: those below `least_confidence`, a share
    `withheld` of all found; `precision` of all, `precision_kept` of the others."""

    fields: tuple[FieldQuality, ...]
    least_confidence: float
    withheld: float
    precision: float
    precision_kept: float
