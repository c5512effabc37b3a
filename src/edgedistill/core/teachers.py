"""The teachers' sections of a task file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgedistill.core.mixture import OwnNames, TeacherWeight
from edgedistill.core.section import Section

ReplayShare = Annotated[float, Field(ge=0, lt=1)]


class TeacherSpec(Section):
    """The big model, and how it is fine-tuned."""

    source: str
    """`package:NAME`, `folder:PATH` or `hub:ORG/NAME`; a fine-tuned classifier may be one."""
    sha256: str | None = None
    """Expected digest of model.safetensors; a difference stops the run."""
    num_epochs: Annotated[int, Field(ge=0, le=100)] = 5
    """Most epochs of fine-tuning; 0 uses an already fine-tuned classifier as it is."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-4
    """Peak learning rate (linear warm-up, cosine decay)."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts a step."""
    patience: Annotated[int, Field(ge=1)] = 2
    """Epochs without a lower validation loss before training stops."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each label that is spread over all labels in fine-tuning."""
    train_embeddings: bool = True
    """Whether fine-tuning moves the token table; frozen, tokens that training does not show keep
    their place among those that it does, and an epoch takes two thirds of the time."""
    precision: Literal["bf16", "fp32"] = "fp32"
    """Arithmetic of the matrix products in training; weights stay fp32."""


class TuningStep(Section):
    """A step of fine-tuning before the task's own rows: general ones, then those of the domain."""

    data: str
    """Rows with labels of the task (.jsonl, .csv, .tsv or .parquet), in its columns."""
    validation: str | None = None
    """Rows that its epochs are chosen on and that show what later steps forget; left out: a share
    of `data.split_ratios.validation` is cut from its rows."""
    num_epochs: Annotated[int, Field(ge=1, le=100)] = 2
    """Most epochs over its rows."""
    replay: ReplayShare = 0.0
    """Share of each batch that are rows of the steps before."""


class ClassifierTeacher(TeacherSpec):
    """The big model, and how it is fine-tuned."""

    l2_sp: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Pull of fine-tuning back to the pretrained weights: half of this times their squared distance
    is added to the loss, and weights do not decay towards 0; 0: none."""
    steps: tuple[TuningStep, ...] = ()
    """Fine-tuning goes through these, in their order, before the task's own rows."""
    replay: ReplayShare = 0.0
    """Share of each batch of the task's own fine-tuning that are rows of the steps before."""
    ewc: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Elastic weight consolidation: after each step, half of this times the squared distance from
    its weights, each by its Fisher information, is added to the loss of all later ones; 0: none."""

    @model_validator(mode="after")
    def _remembers_something(self) -> ClassifierTeacher:
        if self.steps and self.num_epochs == 0:
            raise ValueError("steps: nothing is fine-tuned with num_epochs: 0")
        if not self.steps and (self.replay or self.ewc):
            raise ValueError("replay, ewc: without steps there is nothing to forget; name them")
        if self.steps and self.steps[0].replay:
            raise ValueError("steps.0.replay: there are no rows before the first step")
        if self.batch_size < 2 and (self.replay or any(step.replay for step in self.steps)):
            raise ValueError("replay: a batch of one row has no share to give; raise batch_size")
        return self

    @model_validator(mode="after")
    def _holds_only_what_moves(self) -> ClassifierTeacher:
        if self.l2_sp and self.num_epochs == 0:
            raise ValueError("l2_sp: nothing is fine-tuned with num_epochs: 0")
        return self


class FurtherTeacher(ClassifierTeacher):
    """One more teacher, whose answers are mixed with those of the others."""

    weight: TeacherWeight = 1.0
    """Its weight among the teachers."""
    labels: dict[str, OwnNames] | None = None
    """With `num_epochs: 0`, what it calls each of the task's labels: a name, a list of names whose
    probabilities are added up, or null where it does not know the label; left out: the same."""

    @model_validator(mode="after")
    def _maps_only_what_it_brings(self) -> FurtherTeacher:
        if self.labels is not None and self.num_epochs > 0:
            raise ValueError("labels: fine-tuned here, it learns the task's own; set num_epochs: 0")
        return self
