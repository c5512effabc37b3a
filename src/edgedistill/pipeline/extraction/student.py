"""Stage `student`: taggers cut out of the teacher, distilled or (as control) on spans alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.protocols import Signal
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.dataset import PreparedDocuments
from edgedistill.pipeline.extraction.teacher import Teacher, likelihood
from edgedistill.pipeline.extraction.transfer import TransferSet
from edgedistill.pipeline.stages.any_ground import Answers, AnyGround, Candidate
from edgedistill.pipeline.stages.student import TrainedStudent, load_student, train_student
from edgedistill.pipeline.store import StageResult
from edgedistill.tasks.classification import TextEncoder

if TYPE_CHECKING:
    from torch import nn

    from edgedistill.train.token_rows import TokenSet


@dataclass(frozen=True)
class Ground(AnyGround):
    """What students of a run grow on; their rows are tokens."""

    rooms: ClassVar[tuple[str, ...]] = ("pipeline/extraction/student",)

    context: Context[ExtractionSpec]
    data: PreparedDocuments
    teacher: Teacher
    transfer: TransferSet

    @property
    def encoder(self) -> TextEncoder:
        """The tokenizer that ships."""
        return self.teacher.encoder.encoder

    @property
    def texts(self) -> Encoded:
        """The transfer set."""
        return self.transfer.documents.texts

    @property
    def labelled(self) -> tuple[Encoded, np.ndarray]:
        """The training texts; a text as a whole has no label."""
        texts = self.transfer.labelled.texts
        return texts, np.zeros(len(texts), np.int64)

    @property
    def num_labels(self) -> int:
        """Tags of the task."""
        return len(self.teacher.tags)

    @property
    def validation(self) -> tuple[Encoded, np.ndarray]:
        """The validation texts; of their tokens those with characters count."""
        documents = self.teacher.encoder.encode(self.data.rows.validation)
        return documents.texts, documents.is_content

    def validation_tags(self) -> np.ndarray:
        """The right tag of each validation token that counts, int64."""
        documents = self.teacher.encoder.encode(self.data.rows.validation)
        return np.asarray(documents.tags[documents.is_content], dtype=np.int64)

    def load_teacher(self) -> Any:
        """The teacher as a module in evaluation mode."""
        return self.teacher.load()

    def teachers_answers(self) -> Answers:
        """The teacher's answers, [num_tokens, tags]."""
        transfer = self.transfer
        return Answers(transfer.stage.fingerprint, transfer.logits, transfer.validation_logits())

    def formed(self, student: nn.Module) -> nn.Module:
        """The same network with its head on every token."""
        from edgedistill.models.students.bert_blocks import TransformerStudent, TransformerTagger

        assert isinstance(student, TransformerStudent)
        return TransformerTagger.of(student)

    def examples(self, answers: np.ndarray) -> TokenSet:
        """Texts with the answers to their tokens, and their tags where they have some."""
        from edgedistill.train.token_rows import TokenSet

        documents, texts = self.transfer.documents, self.taught
        num = len(texts.ids)
        kept = self.internals.signals if self.internals else None
        return TokenSet(
            texts, documents.is_content[:num], documents.tags[:num], self.encoder.pad_id,
            {Signal.LOGITS: answers[:num]}, kept or {},
        )  # fmt: skip

    def labelled_examples(self) -> TokenSet:
        """The training texts with their tags alone."""
        from edgedistill.train.token_rows import TokenSet

        documents = self.transfer.labelled
        return TokenSet(documents.texts, documents.is_content, documents.tags, self.encoder.pad_id)

    def undistilled_score(self) -> Callable[[Any], float]:
        """Minus the cross-entropy a token, on the validation split."""
        validation = self.teacher.encoder.encode(self.data.rows.validation)
        return likelihood(validation, self.encoder.pad_id)

    def logits(self, model: Any, texts: Encoded) -> np.ndarray:
        """What a model answers to every token, float32 [num_tokens, tags]."""
        from edgedistill.models.inference import token_outputs

        return token_outputs(model, texts, pad_id=self.encoder.pad_id)[0]


@dataclass(frozen=True)
class Student:
    """A trained student on disk, and the record of its training."""

    ground: Ground
    trained: TrainedStudent

    @property
    def stage(self) -> StageResult:
        """The stage that trained it."""
        return self.trained.stage

    @property
    def training(self) -> dict[str, Any]:
        """The record of its training."""
        return self.trained.training

    def load(self) -> Any:
        """The student as a module in evaluation mode."""
        return load_student(self.ground, self.trained)


def train(ground: Ground, candidate: Candidate, *, distilled: bool = True) -> Student:
    """The trained student; `distilled=False` trains the same network on the spans alone."""
    return Student(ground, train_student(ground, candidate, distilled=distilled))
