"""What the files of a run keep of their teacher on validation: by it they are chosen."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.generation_metrics import FieldCounts
from edgedistill.evaluate.span_metrics import exact_counts, retention
from edgedistill.pipeline.extraction.artefact import Artefact, quality
from edgedistill.pipeline.extraction.labels import label_retentions
from edgedistill.pipeline.extraction.outputs import GoldTexts, Said, said_by_rows
from edgedistill.pipeline.extraction.student import Ground


class TeacherOnValidation:
    """The teacher's answers to the validation texts, as it gave them once."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._gold = GoldTexts(ground.data.rows.validation, ground.teacher)

    @cached_property
    def _said(self) -> Said:
        transfer, rows = self._ground.transfer, self._ground.data.rows.validation
        labels = transfer.validation_label_logits()
        none = np.zeros((len(rows), 0), np.float32)
        documents = self._ground.teacher.encoder.encode(rows)
        return said_by_rows(
            documents, transfer.validation_logits(), none if labels is None else labels
        )

    @cached_property
    def counts(self) -> FieldCounts:
        """Its spans, by text."""
        return exact_counts(self._gold.found(self._said.tags), self._gold.spans)

    @cached_property
    def labels_right(self) -> np.ndarray:
        """Which of its labels are right, bool [n, labels]."""
        return np.asarray(self._gold.labelled(self._said.labels) == self._gold.labels)

    @property
    def score(self) -> float:
        """Mean of the span F1 and of the accuracy of each label."""
        return quality(self.counts, self.labels_right)

    def kept_by(self, artefact: Artefact) -> Interval:
        """The share of its span F1 that a file keeps, or of its accuracy on a label where the bound
        of that is lower.

        Raises:
            VerificationFailed: the teacher finds no span, or has a label of no text right.
        """
        counts, labels_right = artefact.validation()
        confidence = self._ground.context.spec.requirements.confidence
        names = [label.name for label in self._ground.teacher.encoder.labels]
        right = {"teacher": self.labels_right, "shipped": labels_right}
        kept = [
            retention(self.counts, counts, confidence=confidence),
            *label_retentions(names, right, confidence).values(),
        ]
        return min(kept, key=lambda interval: interval.low)
