"""Stage `student`: taggers cut out of the teacher, distilled or (as control) on spans alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.extraction.dataset import PreparedDocuments
from edgedistill.pipeline.extraction.heads import (
    closeness,
    likelihood,
    output_names,
    student_of,
    supervised,
    token_set,
    with_labels,
)
from edgedistill.pipeline.extraction.teacher import Teacher
from edgedistill.pipeline.extraction.transfer import TransferSet
from edgedistill.pipeline.stages.any_ground import Answers, AnyGround, Candidate
from edgedistill.pipeline.stages.student import TrainedStudent, load_student, train_student
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.extraction.labels import value_columns
from edgedistill.tasks.classification import TextEncoder

if TYPE_CHECKING:
    from torch import nn

    from edgedistill.core.protocols import Step
    from edgedistill.models.structure.given import Tagged
    from edgedistill.train.distill.combined import Weighted
    from edgedistill.train.distill.response import Response
    from edgedistill.train.token_rows import TokenSet


@dataclass(frozen=True)
class Ground(AnyGround):
    """What students of a run grow on; their rows are tokens."""

    rooms: ClassVar[tuple[str, ...]] = (
        "pipeline/extraction/heads", "pipeline/extraction/student",
    )  # fmt: skip

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
        """The training texts; families are built for tokens, whatever labels texts have."""
        texts = self.transfer.labelled.texts
        return texts, np.zeros(len(texts), np.int64)

    @property
    def num_labels(self) -> int:
        """Tags of the task, and values of its labels."""
        return len(output_names(self.teacher.encoder))

    @property
    def validation(self) -> tuple[Encoded, np.ndarray]:
        """The validation texts; of their tokens those with characters count."""
        documents = self.teacher.encoder.encode(self.data.rows.validation)
        return documents.texts, documents.is_content

    @property
    def validation_texts(self) -> list[str]:
        """The same as they were written."""
        return self.data.rows.texts("validation")

    @property
    def tagged(self) -> Tagged:
        """The tokens with characters, and the labels, each with the weight of its loss."""
        from edgedistill.models.structure.given import Tagged

        heads, labels = self.context.spec.heads, self.teacher.encoder.labels
        weights = (heads.label_weights.get(label.name, 1.0) for label in labels)
        return Tagged(
            self.transfer.labelled.is_content, tuple(value_columns(labels)),
            (heads.fields_weight, *weights),
        )  # fmt: skip

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
        """The same network with its head on every token, and on texts where they have labels."""
        formed: nn.Module = student_of(student, self.teacher.encoder)
        return formed

    def examples(self, answers: np.ndarray) -> TokenSet:
        """Texts with the answers to their tokens, and their tags where they have some; their labels
        are always answered by the teacher itself."""
        transfer, num_texts = self.transfer, len(self.taught)
        documents = transfer.documents.part(num_texts)
        kept = self.internals.signals if self.internals else None
        labels = None if transfer.label_logits is None else transfer.label_logits[:num_texts]
        num = len(documents.tags)
        examples: TokenSet = token_set(documents, self.teacher.encoder, answers[:num], labels, kept)
        return examples

    def all_parts(self, parts: list[Weighted], response: Response) -> list[Weighted]:
        """The strategy for the fields, and for each label what its teacher answers."""
        from edgedistill.train.distill.response import Response

        if not self.teacher.encoder.labels:
            return parts
        # No guard reads the energy of a label.
        method = Response(response.config.model_copy(update={"energy_weight": 0.0}))
        return with_labels(self.context.spec, self.teacher.encoder, parts, method)

    @property
    def balance(self) -> bool:
        """As the task asks, for its strategy or for its heads."""
        return self.settings.balance or self.context.spec.heads.balance

    def labelled_examples(self) -> TokenSet:
        """The training texts with their tags and labels alone."""
        examples: TokenSet = token_set(self.transfer.labelled, self.teacher.encoder)
        return examples

    def undistilled(self, method: Step, student: nn.Module) -> tuple[Step, nn.Module]:
        """For every head."""
        step, learner = supervised(self.context.spec, self.teacher.encoder, method, student)
        return step, learner

    def undistilled_score(self) -> Callable[[Any], float]:
        """Minus the cross-entropy a token, and a label, on the validation split."""
        encoder = self.teacher.encoder
        return likelihood(self.context.spec, encoder.encode(self.data.rows.validation), encoder)

    def closeness(self, temperature: float) -> Callable[[Any], float]:
        """The same, with the divergence of every label."""
        encoder = self.teacher.encoder
        return closeness(
            self.context.spec, encoder.encode(self.data.rows.validation), encoder,
            self.answers.validation, self.transfer.validation_label_logits(), temperature,
        )  # fmt: skip

    def validation_scores(self, model: Any) -> np.ndarray:
        """Exact span F1 of each text (1 where there is nothing to find and nothing is found), and
        with labels the mean of it and of each label's being right."""
        from edgedistill.evaluate.span_metrics import exact_counts
        from edgedistill.pipeline.extraction.outputs import GoldTexts, said_by_module

        gold = GoldTexts(self.data.rows.validation, self.teacher)
        said = said_by_module(model, gold)
        counts = exact_counts(gold.found(said.tags), gold.spans)
        asked = counts.num_predicted + counts.num_expected
        scores = [np.where(asked > 0, 2 * counts.num_right / np.maximum(1, asked), 1.0)]
        scores += [
            right.astype(np.float64) for right in (gold.labelled(said.labels) == gold.labels).T
        ]
        return np.asarray(np.mean(scores, axis=0))

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
    def candidate(self) -> Candidate:
        """What it was made as."""
        return self.trained.candidate

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
