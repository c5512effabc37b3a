"""What a report shows of the fields of an extraction, and of its labels of whole texts."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.core.artefacts import Interval


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


@dataclass(frozen=True)
class LabelQuality:
    """One label of whole texts on the test texts: accuracy of the bundle (`shipped`), of its
    teacher and of the control without it. `gain` is the bundle's minus the control's, paired (both
    None without a control); `calibration_error` that of its confidences."""

    name: str
    num_values: int
    shipped: Interval
    teacher: Interval
    control: Interval | None
    retention: Interval
    gain: Interval | None
    calibration_error: float
