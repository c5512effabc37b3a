"""Labels of a whole text beside its fields: what a task file says of them, and of the weights of
their losses."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from edgedistill.core.section import Section

LossWeight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class LabelSpec(Section):
    """One label of the whole text, such as its intent or its kind: exactly one of its values."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
    """Name of the label: its key in the record."""
    values: tuple[str, ...] | None = None
    """The values it may have; left out: those of the training rows."""
    column: Annotated[str, Field(min_length=1)] | None = None
    """Column or key of the rows with its value; left out: its name."""

    @model_validator(mode="after")
    def _several(self) -> LabelSpec:
        if self.values is None:
            return self
        if any(not value.strip() for value in self.values):
            raise ValueError("values: one of them is empty")
        if len(set(self.values)) != len(self.values):
            raise ValueError("values must be distinct")
        if len(self.values) < 2:
            raise ValueError("at least two values are needed")
        return self

    @property
    def key(self) -> str:
        """Column or key of the rows."""
        return self.column or self.name


class HeadsSpec(Section):
    """How much the fields and each label count in training, of the teacher and of its student."""

    fields_weight: LossWeight = 1.0
    """Factor of the loss of the fields."""
    label_weights: dict[str, LossWeight] = Field(default={})
    """Factor of the loss of each label, by its name; left out: 1."""
    balance: bool = False
    """Whether each loss is divided by a running mean of its own size before its factor applies."""
