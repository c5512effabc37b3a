"""What students of a classification task grow on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import Signal
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.any_ground import Answers, AnyGround
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.teacher import Teacher, validation_accuracy
from edgedistill.pipeline.stages.transfer import TransferSet
from edgedistill.tasks.classification import TextEncoder, predicted

if TYPE_CHECKING:
    from torch import nn

    from edgedistill.train.batches import SignalRows, TrainingSet


@dataclass(frozen=True)
class Ground(AnyGround):
    """The same for texts with a label each."""

    rooms: ClassVar[tuple[str, ...]] = ("pipeline/stages/ground",)

    context: Context
    data: PreparedData
    teacher: Teacher
    transfer: TransferSet

    @property
    def encoder(self) -> TextEncoder:
        """The tokenizer that ships."""
        return self.teacher.encoder

    @property
    def texts(self) -> Encoded:
        """The transfer set."""
        return self.transfer.texts

    @property
    def labelled(self) -> tuple[Encoded, np.ndarray]:
        """The training texts and their labels."""
        dataset = self.data.dataset
        return self.encoder.encode(dataset.texts("train")), dataset.targets("train")

    @property
    def num_labels(self) -> int:
        """Labels of the task."""
        return len(self.data.dataset.labels)

    @property
    def validation(self) -> tuple[Encoded, Any]:
        """The validation texts, of which all rows count."""
        return self.encoder.encode(self.data.dataset.texts("validation")), slice(None)

    @property
    def validation_texts(self) -> list[str]:
        """The same as they were written."""
        return self.data.dataset.texts("validation")

    def load_teacher(self) -> Any:
        """The teacher as a module in evaluation mode."""
        return self.teacher.load(self.data.dataset)

    def teachers_answers(self) -> Answers:
        """The answers of the one teacher, [n, classes]."""
        validation, _ = self.transfer.outputs("validation")
        return Answers(self.transfer.stage.fingerprint, self.transfer.logits, validation)

    def formed(self, student: nn.Module) -> nn.Module:
        """As families make them."""
        return student

    def examples(self, answers: np.ndarray) -> TrainingSet:
        """Texts with the answers to them, and their labels where they have one."""
        from edgedistill.train.batches import TrainingSet

        texts = self.taught
        targets = self.data.dataset.targets("train")
        labels = np.full(len(texts), -1, np.int64)
        labels[: len(targets)] = targets[: len(texts)]
        signals: dict[Signal, SignalRows] = {Signal.LOGITS: answers[: len(texts)]}
        if self.internals and self.internals.signals:
            signals |= self.internals.signals
        return TrainingSet(texts, labels, self.encoder.pad_id, signals)

    def labelled_examples(self) -> TrainingSet:
        """The training texts with their labels alone."""
        from edgedistill.train.batches import TrainingSet

        return TrainingSet(*self.labelled, self.encoder.pad_id)

    def undistilled_score(self) -> Callable[[Any], float]:
        """Accuracy on the validation split."""
        score: Callable[[Any], float] = validation_accuracy(self.data.dataset, self.encoder)
        return score

    def validation_scores(self, model: Any) -> np.ndarray:
        """1 for each text with the right label, else 0."""
        dataset = self.data.dataset
        answers = predicted(self.logits(model, self.validation[0]))
        return np.asarray(answers == dataset.targets("validation"), np.float64)

    def logits(self, model: Any, texts: Encoded) -> np.ndarray:
        """What a model answers to every text, float32 [n, classes]."""
        from edgedistill.models.inference import model_outputs

        return model_outputs(model, texts, pad_id=self.encoder.pad_id)[0]
