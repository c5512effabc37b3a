"""The task file of kind `extraction`: a text goes in, the values of its fields come out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from edgedistill.core.compression import CompressSpec, and_short, require_whole
from edgedistill.core.distillation import TeachingSpec
from edgedistill.core.mixture import TeacherWeight, require_mixture
from edgedistill.core.requirements import BundleRequirements
from edgedistill.core.task import (
    AugmentationSpec,
    BoundarySpec,
    BudgetSpec,
    DataFiles,
    Fraction,
    InputSpec,
    Section,
    TeacherSpec,
)
from edgedistill.core.text_labels import HeadsSpec, LabelSpec

Normaliser = Literal["text", "number", "money", "date", "enumeration", "pattern"]

#: Keys of a field that only one normaliser reads.
_OWN_KEYS = {
    "values": ("enumeration",),
    "pattern": ("pattern",),
    "date_order": ("date",),
    "currency": ("money",),
    "decimal_mark": ("number", "money"),
}


class ExtractionInput(InputSpec):
    """What the model will be given, and what it must refuse unseen."""

    max_characters: Annotated[int, Field(ge=1)] = 2000
    """Longer inputs are refused."""
    max_tokens: Annotated[int, Field(ge=4, le=512)] = 128
    """Tokens the model reads; an input with more is refused, never cut silently."""


class FieldSpec(Section):
    """One field: what is looked for, and what is made of the words that are found."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
    """Name of the field: the label of its spans, and its key in the record."""
    normaliser: Normaliser = "text"
    """What the words become; where they cannot, the field abstains. `text`: the words, blanks
    collapsed; `number`; `money`: amount and currency; `date`: ISO 8601; `enumeration`: one of
    `values`; `pattern`: what the regular expression takes."""
    many: bool = False
    """Whether a text may have several: the record then holds a list. If not, the surest counts."""
    required: bool = False
    """Whether every record has it: a text without is an abstention."""
    values: dict[str, tuple[str, ...]] = Field(default={})
    """Of an enumeration: each value with the words that mean it, its own name among them."""
    pattern: str | None = None
    """Of a pattern: a regular expression (Python) that the whole span must match; its first group,
    where it has one, is the value."""
    date_order: Literal["day_first", "month_first"] = "day_first"
    """Of a date: how 5/3/2024 is read."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    """Of money: the currency (ISO 4217) where the words name none; left out: then it abstains."""
    decimal_mark: Literal[".", ","] = "."
    """Of numbers and money: what stands before the decimals; the other mark groups thousands."""

    @model_validator(mode="after")
    def _own_keys_alone(self) -> FieldSpec:
        for key, kinds in _OWN_KEYS.items():
            if key in self.model_fields_set and self.normaliser not in kinds:
                raise ValueError(f"{key} is for the normaliser {' or '.join(kinds)} alone")
        if self.normaliser == "enumeration":
            self._require_values()
        if self.normaliser == "pattern":
            self._require_pattern()
        return self

    def _require_values(self) -> None:
        if not self.values:
            raise ValueError("an enumeration needs values")
        meanings: dict[str, str] = {}
        for value, words in self.values.items():
            for word in (value, *words):
                key = " ".join(word.casefold().split())
                if meanings.setdefault(key, value) != value:
                    raise ValueError(f"{word!r} means {meanings[key]!r} and {value!r}")

    def _require_pattern(self) -> None:
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"pattern is no regular expression: {error}") from error
        if not self.pattern:
            raise ValueError("the normaliser pattern needs a pattern")

    def settings(self) -> dict[str, Any]:
        """What its normaliser reads, as plain values."""
        keys = [key for key, kinds in _OWN_KEYS.items() if self.normaliser in kinds]
        return {key: self.model_dump(mode="json")[key] for key in keys}


class ExtractionOutput(Section):
    """What the model answers: a record of fields, and of labels of the whole text."""

    fields: Annotated[tuple[FieldSpec, ...], Field(min_length=1)]
    """The fields, in the order of the record."""
    labels: tuple[LabelSpec, ...] = ()
    """Labels of the whole text, read in the same pass; they stand before the fields."""

    @model_validator(mode="after")
    def _distinct(self) -> ExtractionOutput:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError("fields must have distinct names")
        names += [label.name for label in self.labels]
        if len(set(names)) != len(names):
            raise ValueError("labels must have names of their own: they share a record with fields")
        return self


class ExtractionBoundary(BoundarySpec):
    """What lies outside the task."""

    field_abstention_rate: Fraction | None = 0.02
    """Share of the right fields that may be withheld as too unsure; left out or null: none."""


class DocumentData(Section):
    """Where the texts and their spans come from."""

    files: DataFiles
    """Local files; paths are relative to the task file. All three splits are needed."""
    text_column: str = "text"
    """Column or key with the text."""
    spans_column: str = "spans"
    """Column or key with the spans: a list of {start, end, label}, counted in characters."""
    id_column: str | None = None
    """Column or key with a unique id; left out: ids are file name and line."""
    unlabelled: str | None = None
    """Extra in-bounds texts without spans: the teacher labels them."""
    on_malformed: Literal["refuse", "quarantine"] = "refuse"
    """`quarantine` sets malformed rows aside in a file and goes on without them."""

    @model_validator(mode="after")
    def _all_splits(self) -> DocumentData:
        if self.files.validation is None or self.files.test is None:
            raise ValueError("files needs train, validation and test")
        return self


class ExtractionTeacher(TeacherSpec):
    """The big model, and how it is fine-tuned."""

    source: str
    """`package:NAME`, `folder:PATH` or `hub:ORG/NAME`: a pretrained encoder, or with
    `num_epochs: 0` a tagger."""
    num_epochs: Annotated[int, Field(ge=0, le=100)] = 10
    """Most epochs of fine-tuning; a few hundred rows need more than thousands do. 0: `source` is a
    fine-tuned token classifier with the task's tags (`O`, and `B-NAME` and `I-NAME` a field)."""


class FurtherTagger(ExtractionTeacher):
    """One more teacher, fine-tuned on the same spans, whose answers are mixed with the others'."""

    source: str
    """`package:NAME`, `folder:PATH` or `hub:ORG/NAME`: a pretrained encoder."""
    num_epochs: Annotated[int, Field(ge=1, le=100)] = 10
    """Most epochs of fine-tuning; a few hundred rows need more than thousands do."""
    weight: TeacherWeight = 1.0
    """Its weight among the teachers."""


class ExtractionStudent(Section):
    """The small model: cut out of its teacher."""

    family: Literal["truncated", "small_transformer"] = "truncated"
    """A student family that reads token by token (`edgedistill families`)."""
    options: dict[str, Any] = Field(default={})
    """Settings of that family."""


class ExtractionAugmentation(AugmentationSpec):
    """Texts made from the training texts; the teacher labels them."""

    num_texts: Annotated[int, Field(ge=0)] = 4000
    """How many texts to make."""


class TagDistillation(TeachingSpec):
    """How the student learns from its teacher: what a classifier learns of a text, it learns of
    every token."""

    assistants: tuple[ExtractionStudent, ...] = ()
    """Students in between, largest first: each learns its answers from the one before it, the first
    from the teacher, the student that ships from the last; they ship nothing."""
    augmentation: ExtractionAugmentation = ExtractionAugmentation()
    """Extra texts for the transfer set."""

    @model_validator(mode="after")
    def _has_no_late_stages(self) -> TagDistillation:
        if self.curriculum and self.curriculum.by == "stage":
            raise ValueError("curriculum: by stage needs edge cases or edits, which are made for "
                             "classification alone: take confidence, length or loss")  # fmt: skip
        return self


class ExtractionRequirements(BundleRequirements):
    """What the bundle must meet; each is judged on its confidence bound. Left out: not required."""

    retention: Annotated[float, Field(gt=0, le=1)] | None = 0.97
    """Least share of the teacher's span F1 on the test, and of its accuracy on each label (lower
    bound of each interval)."""
    valid: Fraction | None = None
    """Least share of test texts whose record has every required field (lower bound)."""


class ExtractionSpec(Section):
    """A narrow extraction task, its boundary, its requirements and its budget."""

    schema_version: Literal[1] = 1
    """Version of this file format."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    """Name of the task: lower-case letters, digits, hyphens; names the run folder."""
    description: str = ""
    """One sentence for people."""
    kind: Literal["extraction"]
    """Kind of task."""
    input: ExtractionInput = ExtractionInput()
    output: ExtractionOutput
    boundary: ExtractionBoundary = ExtractionBoundary()
    data: DocumentData
    teacher: ExtractionTeacher
    teachers: tuple[FurtherTagger, ...] = ()
    """Further teachers, which read with the tokenizer of `teacher`; it is what the student grows
    from and is measured against."""
    student: ExtractionStudent = ExtractionStudent()
    compress: Annotated[CompressSpec | None, Field(json_schema_extra=and_short)] = None
    distillation: TagDistillation = TagDistillation()
    heads: HeadsSpec = HeadsSpec()
    """Used where the output has `labels`."""
    requirements: ExtractionRequirements = ExtractionRequirements()
    budget: BudgetSpec = BudgetSpec()
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""

    @model_validator(mode="after")
    def _compresses_in_order(self) -> ExtractionSpec:
        require_whole(self.compress, self.student, self.distillation)
        return self

    @model_validator(mode="after")
    def _mixes_something(self) -> ExtractionSpec:
        require_mixture(self.distillation.mixture, [t.weight for t in self.teachers])
        return self

    @model_validator(mode="after")
    def _trains_on_what_it_can(self) -> ExtractionSpec:
        if self.compress and self.compress.trained_by and self.output.labels:
            raise ValueError(
                f"compress.{self.compress.trained_by}: trains the tags of tokens alone: leave it "
                "out where output has labels"
            )
        return self

    @model_validator(mode="after")
    def _weighs_what_is_there(self) -> ExtractionSpec:
        names = [label.name for label in self.output.labels]
        if not names and self.heads != HeadsSpec():
            raise ValueError("heads: there is nothing to weigh without output.labels")
        unknown = sorted(set(self.heads.label_weights) - set(names))
        if unknown:
            raise ValueError(
                f"heads.label_weights: the output has no label {unknown[0]!r}, but "
                f"{', '.join(names)}"
            )
        return self
