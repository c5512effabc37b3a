"""What students grow on, whatever the kind of their task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgedistill.core.artefacts import Encoded
from edgedistill.core.distillation import TeachingSpec
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.store import StageResult
from edgedistill.tasks.classification import TextEncoder

if TYPE_CHECKING:
    from torch import nn

    from edgedistill.core.protocols import Step
    from edgedistill.models.structure.given import Tagged
    from edgedistill.pipeline.stages.answers import Apart
    from edgedistill.pipeline.stages.internals import TeacherInternals
    from edgedistill.train.distill.combined import Weighted
    from edgedistill.train.distill.response import Response


@dataclass(frozen=True)
class Candidate:
    """A student to try: its family, a name for people, and its settings."""

    family: str
    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """What students are to answer.

    `logits`: a row for each text of the transfer set, or each of its tokens; `validation`: float32,
    the same of the validation texts, on which closeness is measured. `notes`: for the report.
    `apart`: of what each step is to mix the answers anew; None where `logits` are all there is to
    learn.
    """

    fingerprint: str
    logits: np.ndarray
    validation: np.ndarray
    notes: tuple[str, ...] = ()
    apart: Apart | None = None


@dataclass(frozen=True)
class AnyGround(ABC):
    """What every student of a run grows on; `internals` where the strategy looks inside,
    `instead` where students are to answer otherwise than the teacher alone does; `made`: what is
    made once for this ground and those that differ from it in the strategy alone.

    Rows are what a model answers for: texts, or tokens.
    """

    #: Modules of edgedistill that only this kind's students depend on.
    rooms: ClassVar[tuple[str, ...]]

    context: Context[Any]
    data: Any
    teacher: Any
    transfer: Any
    internals: TeacherInternals | None = None
    instead: Answers | None = None
    made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def settings(self) -> TeachingSpec:
        """How the task wants its students taught."""
        settings: TeachingSpec = self.context.spec.distillation
        return settings

    @property
    def stage(self) -> StageResult:
        """The stage that made the transfer set."""
        stage: StageResult = self.transfer.stage
        return stage

    @property
    def taught(self) -> Encoded:
        """The texts of the transfer set that students learn from."""
        return self.texts.part(0, min(self.settings.num_texts or len(self.texts), len(self.texts)))

    @cached_property
    def answers(self) -> Answers:
        """What students are to answer."""
        return self.instead or self.teachers_answers()

    @property
    def material(self) -> Any:
        """What students are built from; students copy what they take of it."""
        if "material" not in self.made:
            self.made["material"] = self._material()
        return self.made["material"]

    def _material(self) -> Any:
        from edgedistill.models.students.family import Material
        from edgedistill.models.students.vocabulary import keep_tokens, used_tokens

        spec, model = self.context.spec, self.load_teacher()
        table = model.encoder.get_input_embeddings().weight
        used = used_tokens([self.transfer.real_ids], vocabulary_size=len(table))
        texts, targets = self.labelled
        return Material(
            teacher=model,
            kept=keep_tokens(table, used.tolist(), self.encoder.special_ids),
            train=texts,
            targets=targets,
            num_labels=self.num_labels,
            max_tokens=spec.input.max_tokens,
            pad_id=self.encoder.pad_id,
            seed=spec.seed,
            tagged=self.tagged,
        )

    def closeness(self, temperature: float) -> Callable[[Any], float]:
        """A function that scores a model: minus the divergence from what it is to answer, on
        validation rows.

        The epoch that is kept is chosen by it: on a few thousand rows, accuracy alone is so coarse
        that it may pick an early epoch by luck, whereas this uses every probability.
        """
        import torch

        from edgedistill.train.distill.logit_losses import softened_kl

        texts, rows = self.validation
        target = torch.from_numpy(self.answers.validation[rows])

        def score(model: Any) -> float:
            logits = torch.from_numpy(self.logits(model, texts)[rows])
            return -float(softened_kl(logits, target, temperature))

        return score

    @property
    def balance(self) -> bool:
        """Whether each part of what is taught is divided by a running mean of its own size."""
        return self.settings.balance

    def all_parts(self, parts: list[Weighted], response: Response) -> list[Weighted]:
        """The parts of the task's strategy, and what its students learn beside them.

        Args:
            response: of the parts, the one that teaches answers.
        """
        return parts

    def undistilled(self, method: Step, student: nn.Module) -> tuple[Step, nn.Module]:
        """(step, what is trained by it) of a student that learns of the labels alone.

        Args:
            method: for rows with a label each.
        """
        return method, student

    @property
    @abstractmethod
    def encoder(self) -> TextEncoder:
        """The tokenizer that ships."""

    @property
    @abstractmethod
    def texts(self) -> Encoded:
        """The transfer set."""

    @property
    @abstractmethod
    def labelled(self) -> tuple[Encoded, np.ndarray]:
        """The training texts, and the label of each, int64 (0 where a text has none of its own)."""

    @property
    @abstractmethod
    def num_labels(self) -> int:
        """Labels or tags that a row may have."""

    @property
    @abstractmethod
    def validation(self) -> tuple[Encoded, Any]:
        """The validation texts, and which of their rows count: an index of `Answers.validation`."""

    @property
    @abstractmethod
    def validation_texts(self) -> list[str]:
        """The same as they were written."""

    @property
    def tagged(self) -> Tagged | None:
        """What the tokens of `labelled` answer for; None where texts do."""
        return None

    @abstractmethod
    def load_teacher(self) -> Any:
        """The teacher as a module in evaluation mode."""

    @abstractmethod
    def teachers_answers(self) -> Answers:
        """The answers of the one teacher."""

    @abstractmethod
    def formed(self, student: nn.Module) -> nn.Module:
        """A student of a family with its head where the task needs it; what is its teacher under
        passes has it there already."""

    @abstractmethod
    def examples(self, answers: np.ndarray) -> Any:
        """The texts `taught` with what is to be answered, and the teacher's inside where it is
        kept: `TrainingData` with the methods `batch` and `by_text`.

        Args:
            answers: as `Answers.logits`.
        """

    @abstractmethod
    def labelled_examples(self) -> Any:
        """The training texts with their own labels alone."""

    @abstractmethod
    def undistilled_score(self) -> Callable[[Any], float]:
        """A function that scores a model which learns of the labels alone."""

    @abstractmethod
    def validation_scores(self, model: Any) -> np.ndarray:
        """How right a model is on each validation text, float64 in [0, 1]."""

    @abstractmethod
    def logits(self, model: Any, texts: Encoded) -> np.ndarray:
        """What a model answers to every row of the texts, float32."""
