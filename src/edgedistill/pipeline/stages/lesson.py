"""The step that teaches a student, and what it teaches from, as the task's strategy says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.core.errors import ModelError
from edgedistill.core.protocols import Batch, Signal
from edgedistill.pipeline.strategy import is_plain, strategy_parts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgedistill.core.protocols import Step
    from edgedistill.pipeline.stages.student import Candidate, Ground
    from edgedistill.train.batches import SignalRows
    from edgedistill.train.distill.combined import Weighted
    from edgedistill.train.distill.curriculum import Curriculum


@dataclass(frozen=True)
class Lesson:
    """What a student is taught with: examples with the teacher's signals, and the parts.

    `temperature`: at which the divergence from the teacher is measured on validation texts.
    """

    ground: Ground
    parts: list[Weighted]
    examples: Any
    temperature: float

    def begin(self, student: nn.Module, num_steps: int) -> tuple[Step, nn.Module]:
        """(step, what is trained by it): the student, or a learner around it."""
        from edgedistill.train.distill.combined import Combined

        if is_plain(self.ground.context.spec):
            step: Any = self.parts[0].part
            return step, student
        internals = self.ground.internals
        combined = Combined(
            self.parts,
            balance=self.ground.context.spec.distillation.balance,
            num_steps=num_steps,
            layers=internals.layers if internals else None,
            live=self._live() if internals and internals.signals is None else None,
        )
        return combined, combined.learner(student)

    def curriculum(
        self, student: nn.Module, learner: nn.Module, num_epochs: int
    ) -> Curriculum | None:
        """The order in which the texts are learned; None where all are from the start.

        Args:
            learner: what `begin` gave, which keeps the pace from now on.
        """
        from edgedistill.models.inference import model_outputs
        from edgedistill.train.distill.curriculum import Curriculum, Pace, distance, unsureness

        settings = self.ground.context.spec.distillation.curriculum
        if settings is None:
            return None
        answers, texts = self.examples.signals[Signal.LOGITS], self.examples.texts
        if settings.by == "confidence":
            difficulty = unsureness(answers)
        elif settings.by == "length":
            difficulty = texts.lengths
        else:
            logits, _ = model_outputs(student, texts, pad_id=self.examples.pad_id)
            difficulty = distance(logits, answers, self.temperature)
        pace = Pace(settings, num_epochs)
        learner.add_module("pace", pace)
        return Curriculum(self.examples, difficulty, pace)

    def _live(self) -> Callable[[Batch], Mapping[Signal, Tensor]]:
        """Reads a batch with the teacher."""
        from edgedistill.models.internals import teacher_internals

        assert self.ground.internals is not None
        layers = self.ground.internals.layers
        teacher = self.ground.teacher.load(self.ground.data.dataset)

        def read(batch: Batch) -> Mapping[Signal, Tensor]:
            teacher.to(batch.input_ids.device)
            return teacher_internals(teacher, batch.input_ids, batch.attention_mask, layers)

        return read


def prepare_lesson(ground: Ground, candidate: Candidate, logits: np.ndarray) -> Lesson:
    """What a candidate is taught.

    Args:
        logits: [n, classes], what is to be answered to each text of the transfer set.

    Raises:
        MissingSignal, SpecError: the strategy does not fit this candidate.
        ModelError: the answers to be learned are not numbers.
    """
    import torch

    from edgedistill.train.batches import TrainingSet
    from edgedistill.train.distill.response import Response

    spec, transfer = ground.context.spec, ground.transfer
    # What parts learn beside the student begins at random.
    torch.manual_seed(spec.seed)
    parts = strategy_parts(spec, candidate, ground.teacher.source)
    num_texts = min(spec.distillation.num_texts or len(transfer.texts), len(transfer.texts))
    answers = logits[:num_texts]
    if not np.isfinite(answers).all():
        raise ModelError(
            "the teacher's answers are not numbers for some texts of the transfer set",
            where="teacher",
            fix="check its weights, or train it with precision fp32",
        )
    targets = ground.data.dataset.targets("train")
    labels = np.full(num_texts, -1, np.int64)
    labels[: len(targets)] = targets[:num_texts]
    signals: dict[Signal, SignalRows] = {Signal.LOGITS: answers}
    if ground.internals and ground.internals.signals:
        signals |= ground.internals.signals
    response = next(each.part for each in parts if isinstance(each.part, Response))
    texts = transfer.texts.part(0, num_texts)
    examples = TrainingSet(texts, labels, ground.teacher.encoder.pad_id, signals)
    return Lesson(ground, parts, examples, response.config.temperature)


def closeness(ground: Ground, temperature: float) -> Callable[[Any], float]:
    """A function that scores a model: minus the divergence from what it is to answer, on validation
    texts.

    The epoch that is kept is chosen by it: on 3,000 texts, accuracy alone is so coarse that it
    may pick an early epoch by luck, whereas closeness to the teacher uses every probability.
    """
    import torch

    from edgedistill.models.inference import model_outputs
    from edgedistill.train.distill.logit_losses import softened_kl

    encoder = ground.teacher.encoder
    texts = encoder.encode(ground.data.dataset.texts("validation"))
    target = torch.from_numpy(ground.answers.validation)

    def score(model: Any) -> float:
        logits, _ = model_outputs(model, texts, pad_id=encoder.pad_id)
        return -float(softened_kl(torch.from_numpy(logits), target, temperature))

    return score
