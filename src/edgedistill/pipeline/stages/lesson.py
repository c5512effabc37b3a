"""The step that teaches a student, and what it teaches from, as the task's strategy says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.core.errors import ModelError
from edgedistill.core.protocols import Batch, Signal
from edgedistill.pipeline.stages.made_texts import late_stages
from edgedistill.pipeline.strategy import is_plain, strategy_parts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgedistill.core.mixture import MixtureSpec
    from edgedistill.core.protocols import Step
    from edgedistill.pipeline.stages.any_ground import AnyGround, Candidate
    from edgedistill.train.distill.combined import Weighted
    from edgedistill.train.distill.curriculum import Curriculum


@dataclass(frozen=True)
class Lesson:
    """What a student is taught with: examples with the teacher's signals, and the parts.

    `temperature`: at which the divergence from the teacher is measured on validation texts.
    """

    ground: AnyGround
    parts: list[Weighted]
    examples: Any
    temperature: float

    def begin(self, student: nn.Module, num_steps: int) -> tuple[Step, nn.Module]:
        """(step, what is trained by it): the student, or a learner around it."""
        from edgedistill.train.distill.combined import Combined

        if is_plain(self.ground.context.spec) and len(self.parts) == 1:
            step: Any = self.parts[0].part
            return step, student
        internals = self.ground.internals
        combined = Combined(
            self.parts,
            balance=self.ground.balance,
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
        from edgedistill.train.distill.curriculum import (
            Curriculum,
            Pace,
            distance,
            staged,
            unsureness,
        )

        settings = self.ground.settings.curriculum
        if settings is None:
            return None
        examples, answers = self.examples, self.examples.signals[Signal.LOGITS]
        ends: list[int] | None = None
        if settings.by == "confidence":
            difficulty = examples.by_text(unsureness(answers))
        elif settings.by == "stage":
            late = late_stages(self.ground.transfer.num_real, self.ground.transfer.made)
            difficulty, ends = staged(unsureness(answers), late[: len(examples)])
        elif settings.by == "length":
            difficulty = examples.texts.lengths
        else:
            logits = self.ground.logits(student, examples.texts)
            difficulty = examples.by_text(distance(logits, answers, self.temperature))
        pace = Pace(settings, num_epochs, len(ends) if ends else None)
        learner.add_module("pace", pace)
        return Curriculum(examples, difficulty, pace, ends)

    def _live(self) -> Callable[[Batch], Mapping[Signal, Tensor]]:
        """Reads a batch with the teacher."""
        from edgedistill.models.internals import teacher_internals

        assert self.ground.internals is not None
        layers = self.ground.internals.layers
        teacher = self.ground.load_teacher()

        def read(batch: Batch) -> Mapping[Signal, Tensor]:
            teacher.to(batch.input_ids.device)
            return teacher_internals(teacher, batch.input_ids, batch.attention_mask, layers)

        return read


def prepare_lesson(ground: AnyGround, candidate: Candidate, logits: np.ndarray) -> Lesson:
    """What a candidate is taught.

    Args:
        logits: what is to be answered to each row of the transfer set.

    Raises:
        MissingSignal, SpecError: the strategy does not fit this candidate.
        ModelError: the answers to be learned are not numbers.
    """
    import torch

    from edgedistill.train.distill.response import Response

    spec = ground.context.spec
    # What parts learn beside the student begins at random.
    torch.manual_seed(spec.seed)
    parts = strategy_parts(spec, candidate, ground.teacher.source)
    examples = ground.examples(logits)
    if not np.isfinite(examples.signals[Signal.LOGITS]).all():
        raise ModelError(
            "the teacher's answers are not numbers for some texts of the transfer set",
            where="teacher",
            fix="check its weights, or train it with precision fp32",
        )
    response = next(each.part for each in parts if isinstance(each.part, Response))
    apart = ground.answers.apart
    # Whoever learns from another student has one teacher alone.
    if apart and logits is ground.answers.logits:
        signals = {**examples.signals, Signal.TEACHERS: apart}
        examples = replace(examples, signals=signals)
        parts = _agreeing(ground.settings.mixture, apart.weights, parts)
    parts = ground.all_parts(parts, response)
    return Lesson(ground, parts, examples, response.config.temperature)


def _agreeing(
    settings: MixtureSpec, weights: Sequence[float], parts: list[Weighted]
) -> list[Weighted]:
    """The parts, of which those on answers mix what the teachers say anew in each step."""
    from edgedistill.train.distill.agreement import Agreement
    from edgedistill.train.distill.response import Response

    found = []
    for each in parts:
        part = each.part
        if isinstance(part, Response):
            part = Agreement(
                part,
                weights,
                temperature=part.config.temperature,
                by_labels=settings.agree_with == "labels",
            )
        found.append(replace(each, part=part))
    return found
