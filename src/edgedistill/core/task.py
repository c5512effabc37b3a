"""The task file: one frozen model a section. Each default stands here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgedistill.core.augmentation import AugmentationSpec as AugmentationSpec
from edgedistill.core.augmentation import TextAugmentation
from edgedistill.core.compression import CompressSpec, and_short, require_whole
from edgedistill.core.distillation import TeachingSpec
from edgedistill.core.ensemble import EnsembleSpec, FurtherStudent
from edgedistill.core.mixture import require_mixture
from edgedistill.core.requirements import BundleRequirements
from edgedistill.core.section import Section as Section
from edgedistill.core.teachers import ClassifierTeacher, FurtherTeacher
from edgedistill.core.teachers import TeacherSpec as TeacherSpec

SCHEMA_VERSION = 1

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


class InputSpec(Section):
    """What the model will be given, and what it must refuse unseen."""

    format: Literal["text"] = "text"
    """The form of an input."""
    min_characters: Annotated[int, Field(ge=1)] = 1
    """Shorter inputs (after trimming) are refused."""
    max_characters: Annotated[int, Field(ge=1)] = 1000
    """Longer inputs are refused."""
    max_tokens: Annotated[int, Field(ge=4, le=512)] = 64
    """Tokens the model reads; an input with more is refused, never cut silently."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes of the languages in bounds; empty: no language check."""
    domain: str = ""
    """The domain in words, for people: it goes into the model card."""

    @model_validator(mode="after")
    def _ordered(self) -> InputSpec:
        if self.min_characters > self.max_characters:
            raise ValueError("min_characters must not exceed max_characters")
        return self


class OutputSpec(Section):
    """What the model answers."""

    labels: tuple[str, ...] | None = None
    """The allowed labels; left out: those of the training data."""

    @model_validator(mode="after")
    def _distinct(self) -> OutputSpec:
        if self.labels is not None:
            if len(set(self.labels)) != len(self.labels):
                raise ValueError("labels must be distinct")
            if len(self.labels) < 2:
                raise ValueError("at least two labels are needed")
        return self


class OutOfBoundsFiles(Section):
    """Texts that the model must refuse: the text column, and if wanted a column `group` (such as
    near, far) whose groups the report shows apart."""

    train: str | None = None
    """Used to train the out-of-bounds score."""
    validation: str | None = None
    """Used to choose the score."""
    test: str | None = None
    """Scored once, for the report."""


class BoundarySpec(Section):
    """What lies outside the task."""

    non_goals: tuple[str, ...] = ()
    """What the model is not for, in words: it goes into the model card and the report."""
    edge_cases: str | None = None
    """A labelled file of hard cases, scored apart in the report."""
    out_of_bounds: OutOfBoundsFiles = OutOfBoundsFiles()
    """Examples of what must be refused."""
    false_abstention_rate: Fraction = 0.05
    """Share of in-bounds inputs that the guard may refuse."""


class DataFiles(Section):
    """One file a split, or `train` alone with `split_ratios`."""

    train: str
    """Training rows (.jsonl, .csv, .tsv or .parquet)."""
    validation: str | None = None
    """Rows that settings are chosen on."""
    test: str | None = None
    """Rows that are scored once, for the report."""


class SplitRatios(Section):
    """Shares cut from `train`, stratified by label, where a split has no file."""

    validation: Fraction = 0.15
    """Share of the rows for validation."""
    test: Fraction = 0.15
    """Share of the rows for the test."""

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> SplitRatios:
        if self.validation + self.test > 0.8:
            raise ValueError("validation and test together must leave at least 0.2 for training")
        return self


class DataSpec(Section):
    """Where the rows come from."""

    files: DataFiles | None = None
    """Local files; paths are relative to the task file."""
    hub: str | None = None
    """A Hugging Face data set id (splits train, validation, test), instead of files."""
    text_column: str = "text"
    """Column or key with the input."""
    label_column: str = "label"
    """Column or key with the label."""
    id_column: str | None = None
    """Column or key with a unique id; left out: ids are file name and line."""
    split_ratios: SplitRatios = SplitRatios()
    """Used for the splits that have no file."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the stratified split."""
    unlabelled: str | None = None
    """Extra in-bounds texts without labels: the teacher labels them."""
    on_malformed: Literal["refuse", "quarantine"] = "refuse"
    """`quarantine` sets malformed rows aside in a file and goes on without them."""

    @model_validator(mode="after")
    def _one_source(self) -> DataSpec:
        if (self.files is None) == (self.hub is None):
            raise ValueError("give exactly one of 'files' and 'hub'")
        return self


class StudentSpec(Section):
    """The small model."""

    family: str = "auto"
    """A student family (`edgedistill families`), or `auto` to search them under the budget."""
    options: dict[str, Any] = Field(default={})
    """Settings of that family; not with `auto`."""
    ensemble: EnsembleSpec | None = None

    @model_validator(mode="after")
    def _auto_has_no_options(self) -> StudentSpec:
        if self.family == "auto" and self.options:
            raise ValueError("options need a family; 'auto' chooses them itself")
        if self.family == "auto" and self.ensemble:
            raise ValueError("an ensemble needs a family; 'auto' tries single students")
        return self


class DistillationSpec(TeachingSpec):
    """How the student learns from its teacher."""

    assistants: tuple[FurtherStudent, ...] = ()
    """Students in between, largest first: each learns its answers from the one before it, the first
    from the teacher, the student that ships from the last; they ship nothing."""
    augmentation: TextAugmentation = TextAugmentation()
    """Extra texts for the transfer set."""

    @model_validator(mode="after")
    def _has_late_stages(self) -> DistillationSpec:
        if self.curriculum and self.curriculum.by == "stage" and not self.augmentation.has_stages:
            raise ValueError(
                "curriculum: by stage needs texts that come last: ask for "
                "augmentation.edge_cases or augmentation.adversarial"
            )
        return self

    @model_validator(mode="after")
    def _names_assistants(self) -> DistillationSpec:
        if any(assistant.family == "auto" for assistant in self.assistants):
            raise ValueError(
                "assistants: each needs a family of its own, 'auto' is for the student"
            )
        return self


class Requirements(BundleRequirements):
    """What the bundle must meet; each is judged on its confidence bound. Left out: not required."""

    batch_agreement: Annotated[float, Field(ge=0, le=1)] = 0.999
    """Least share of labels that are equal alone and in a batch of 32."""
    general_retention: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least share of the accuracy that the teacher has after its first step, on the validation rows
    of that step, that the bundle keeps (lower bound; needs `teacher.steps`)."""


class BudgetSpec(Section):
    """What the factory may spend."""

    wall_time_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Most minutes of a run on this machine; `auto` fits its search into it."""
    memory_gb: Annotated[float, Field(gt=0)] = 8.0
    """Most memory of a run."""


class TaskSpec(Section):
    """A narrow language task, its boundary, its requirements and its budget."""

    schema_version: Literal[1] = 1
    """Version of this file format."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    """Name of the task: lower-case letters, digits, hyphens; names the run folder."""
    description: str = ""
    """One sentence for people."""
    kind: Literal["classification"] = "classification"
    """Kind of task."""
    input: InputSpec = InputSpec()
    output: OutputSpec = OutputSpec()
    boundary: BoundarySpec = BoundarySpec()
    data: DataSpec
    teacher: ClassifierTeacher
    teachers: tuple[FurtherTeacher, ...] = ()
    """Further teachers; `teacher` is what the student grows from and is measured against."""
    student: StudentSpec = StudentSpec()
    compress: Annotated[CompressSpec | None, Field(json_schema_extra=and_short)] = None
    distillation: DistillationSpec = DistillationSpec()
    requirements: Requirements = Requirements()
    budget: BudgetSpec = BudgetSpec()
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random but the split."""

    @model_validator(mode="after")
    def _compresses_in_order(self) -> TaskSpec:
        require_whole(self.compress, self.student, self.distillation)
        return self

    @model_validator(mode="after")
    def _searches_one_thing(self) -> TaskSpec:
        if self.distillation.search is not None and self.student.family == "auto":
            raise ValueError(
                "distillation.strategy: auto needs a student.family: strategies are compared on "
                "one student. Let family auto choose it first, then name it"
            )
        if self.distillation.search is not None and self.student.ensemble:
            raise ValueError(
                "distillation.strategy: auto compares strategies on one student. Let it choose "
                "first, then name the strategy beside student.ensemble"
            )
        return self

    @model_validator(mode="after")
    def _makes_texts_of_something(self) -> TaskSpec:
        try:
            self.distillation.augmentation.refuse_what_lacks(
                edge_cases=self.boundary.edge_cases,
                out_of_bounds=self.boundary.out_of_bounds.train,
                max_characters=self.input.max_characters,
            )
        except ValueError as error:
            raise ValueError(f"distillation.augmentation.{error}") from error
        return self

    @model_validator(mode="after")
    def _keeps_something(self) -> TaskSpec:
        if self.requirements.general_retention is not None and not self.teacher.steps:
            raise ValueError(
                "requirements.general_retention: there is nothing to keep without teacher.steps"
            )
        return self

    @model_validator(mode="after")
    def _mixes_something(self) -> TaskSpec:
        require_mixture(self.distillation.mixture, [t.weight for t in self.teachers])
        return self
