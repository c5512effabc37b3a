"""How well labels of whole texts are told, by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgedistill.core.artefacts import Interval
from edgedistill.core.errors import VerificationFailed
from edgedistill.core.extraction import TextLabel
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.evaluate.intervals import (
    accuracy_difference_interval,
    clopper_pearson_interval,
    retention_interval,
)
from edgedistill.evaluate.metrics import expected_calibration_error
from edgedistill.evaluate.report.field_quality import LabelQuality

Right = Mapping[str, np.ndarray]
"""Which labels of the texts are right, bool [n, labels], by model: shipped, teacher, and control
where there is one."""


def label_retentions(names: Sequence[str], right: Right, confidence: float) -> dict[str, Interval]:
    """The share of the teacher's accuracy that the bundle keeps, by label.

    Raises:
        VerificationFailed: a teacher that is right on no text.
    """
    for name, of_teacher in zip(names, right["teacher"].T, strict=True):
        if not of_teacher.any():
            raise VerificationFailed(
                f"the teacher has the {name} of no test text right: what a student keeps of that "
                "has no meaning",
                where="teacher",
                fix="train it longer (teacher.num_epochs), or give it more rows",
            )
    return {
        name: retention_interval(
            right["teacher"][:, place], right["shipped"][:, place], confidence=confidence
        )
        for place, name in enumerate(names)
    }


def weights_told(spec: ExtractionSpec) -> tuple[str, ...]:
    """How the losses of the heads were weighed, for the report; nothing without labels."""
    if not spec.output.labels:
        return ()
    weights = {"fields": spec.heads.fields_weight}
    weights |= {label.name: 1.0 for label in spec.output.labels} | spec.heads.label_weights
    told = ", ".join(f"{name} × {weight:g}" for name, weight in weights.items())
    balanced = ", each divided by a running mean of its own size" if spec.heads.balance else ""
    return (f"Fields and labels were learned together; factors of their losses: {told}{balanced}.",)


def label_qualities(
    labels: Sequence[TextLabel],
    right: Right,
    kept: Mapping[str, Interval],
    confidences: Sequence[Sequence[float]],
    confidence: float,
) -> tuple[LabelQuality, ...]:
    """What the report shows of each label.

    Args:
        kept: of the teacher's accuracy, by label. confidences: of the bundle, of each text and
            label. confidence: of every interval.
    """
    found = []
    for place, label in enumerate(labels):
        of = {name: told[:, place] for name, told in right.items()}
        accuracy = {
            name: clopper_pearson_interval(int(told.sum()), len(told), confidence=confidence)
            for name, told in of.items()
        }
        gain = None
        if "control" in of:
            gain = accuracy_difference_interval(of["control"], of["shipped"], confidence=confidence)
        sure = [row[place] for row in confidences]
        found.append(LabelQuality(
            label.name, len(label.values), accuracy["shipped"], accuracy["teacher"],
            accuracy.get("control"), retention=kept[label.name], gain=gain,
            calibration_error=expected_calibration_error(sure, of["shipped"]),
        ))  # fmt: skip
    return tuple(found)
