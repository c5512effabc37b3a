"""The task file of kind `generation`: a prompt goes in, a text comes out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgedistill.core.requirements import BundleRequirements
from edgedistill.core.task import (
    BoundarySpec,
    BudgetSpec,
    DataFiles,
    Fraction,
    InputSpec,
    Section,
)
from edgedistill.core.token_distillation import TokenDistillation
from edgedistill.core.weight_groups import MIN_BYTES, is_large
from edgedistill.core.weight_types import FOUR_BITS, ONNX_TYPES, WeightType

Purpose = Literal["json", "translation", "summarisation", "question_answering", "instructions"]
Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Metric = Literal["field_f1", "bleu", "chrf", "rouge_l", "exact_match"]

#: The metric that a purpose is judged on, unless the task names another.
METRICS: dict[str, Metric] = {
    "json": "field_f1",
    "translation": "bleu",
    "summarisation": "rouge_l",
    "question_answering": "exact_match",
    "instructions": "chrf",
}


class GenerationInput(InputSpec):
    """What the model will be given, and what it must refuse unseen."""

    max_tokens: Annotated[int, Field(ge=4, le=8192)] = 256
    """Tokens of a prompt; one with more is refused, never cut silently."""


class GenerationOutput(Section):
    """What the model answers."""

    purpose: Purpose = "instructions"
    """What the text is for; sets the metric, and for `json` the grammar of the answer."""
    schema_file: str | None = None
    """A JSON Schema that every answer meets (purpose `json`), relative to the task file."""
    metric: Metric | None = None
    """What answers are scored by; left out: the purpose's own."""
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    """Longest answer; one that runs into it is an abstention."""
    beams: Annotated[int, Field(ge=1, le=64)] = 1
    """Continuations that are followed at once; 1 is greedy, more need ONNX types of weights."""
    length_penalty: Annotated[float, Field(ge=-4, le=4)] = 1.0
    """With several beams: power of the length that log-probabilities are divided by; higher
    prefers longer answers."""

    @model_validator(mode="after")
    def _schema_for_json(self) -> GenerationOutput:
        if (self.purpose == "json") != (self.schema_file is not None):
            raise ValueError("purpose json needs schema_file, and no other purpose takes one")
        return self

    @property
    def scored_by(self) -> Metric:
        """The metric of the task."""
        return self.metric or METRICS[self.purpose]


class ConversationData(Section):
    """Where the conversations come from."""

    files: DataFiles
    """Local files; paths are relative to the task file. All three splits are needed."""
    prompt_column: str = "prompt"
    """Column or key with the prompt."""
    response_column: str = "response"
    """Column or key with the expected answer."""
    draft_column: str = "draft"
    """Column or key with what is written before the answer; may be absent or empty."""
    thinking_column: str = "thinking"
    """Column or key with the reasoning before the answer; may be absent or empty."""
    messages_column: str = "messages"
    """Column or key with whole conversations, a list of {role, content}, instead of a prompt and
    its response."""
    unlabelled: str | None = None
    """A file of prompts without answers: the teacher answers them, the student learns that."""
    on_malformed: Literal["refuse", "quarantine"] = "refuse"
    """`quarantine` sets malformed rows aside in a file and goes on without them."""

    @model_validator(mode="after")
    def _all_splits(self) -> ConversationData:
        if self.files.validation is None or self.files.test is None:
            raise ValueError("files needs train, validation and test")
        return self


class LanguageModelShape(Section):
    """A Llama network that is trained from nothing."""

    hidden_size: Annotated[int, Field(ge=8)] = 256
    """Width of the residual stream."""
    num_layers: Annotated[int, Field(ge=1)] = 6
    """Decoder blocks."""
    num_heads: Annotated[int, Field(ge=1)] = 8
    """Heads of an attention; they divide the width."""
    num_kv_heads: Annotated[int, Field(ge=1)] = 4
    """Heads with keys and values of their own; they divide the heads."""
    intermediate_size: Annotated[int, Field(ge=8)] = 704
    """Units of a feed-forward."""

    @model_validator(mode="after")
    def _divisible(self) -> LanguageModelShape:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError("hidden_size must be a multiple of 2 · num_heads")
        if self.num_heads % self.num_kv_heads:
            raise ValueError("num_heads must be a multiple of num_kv_heads")
        return self


class LanguageTraining(Section):
    """How a language model is trained."""

    num_epochs: Annotated[int, Field(ge=0, le=200)] = 6
    """Most epochs; training stops earlier where validation gets no better. 0, for a pretrained
    teacher alone: it is used as it is."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak learning rate (linear warm-up, cosine decay); left out: 2e-3 from nothing or cut out
    of a teacher, 2e-4 for adapters, 5e-5 for other pretrained weights."""
    batch_tokens: Annotated[int, Field(ge=64)] = 2048
    """Tokens a batch."""
    accumulation: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients are averaged for one step, where memory holds no larger one."""
    patience: Annotated[int, Field(ge=1)] = 2
    """Epochs without a lower validation loss before training stops."""
    precision: Literal["bf16", "fp32"] = "fp32"
    """Arithmetic of the matrix products; weights stay fp32."""


class AdapterSpec(Section):
    """Low-rank adapters (LoRA): beside frozen weights, and added into them after training."""

    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rank of each; left out: 64 from a billion parameters on, 32 from 100 million on, else 16."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Their weight is alpha / rank; left out: twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of an adapter's inputs that are left out in training."""
    targets: Annotated[tuple[Projection, ...], Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Names of the linear layers that get one."""
    quantised: bool = False
    """QLoRA: beside a base of 4 bits, which a quarter of the memory holds. What was trained is
    added to that base, not to the one before. Needs the extra `qlora`."""


class LanguageTeacher(Section):
    """The big model."""

    source: Annotated[str, Field(min_length=1)] = "new"
    """`new`: a Llama that is trained here from nothing. Or a pretrained one: its folder in the
    layout of transformers (relative to the task file), or `hub:OWNER/NAME`."""
    vocabulary_size: Annotated[int, Field(ge=300, le=65_536)] = 4096
    """Tokens of the vocabulary that a new teacher gets, learned from the training rows."""
    bare_words: bool = False
    """Of a new teacher: blanks are tokens of their own, so that a word has the same ids wherever it
    stands. Helps where words of the prompt are copied into the answer; texts take more tokens."""
    shape: LanguageModelShape = LanguageModelShape()
    """Of a new teacher."""
    vocabulary: Literal["whole", "used"] = "whole"
    """Of a pretrained teacher, and so of its student. `used`: after its training it keeps the
    tokens of the training rows alone, and what spells all other texts; the tables shrink."""
    adapters: AdapterSpec | None = None
    """Of a pretrained teacher: adapters are trained; left out: all its weights."""
    training: LanguageTraining = LanguageTraining()

    @model_validator(mode="after")
    def _of_its_source(self) -> LanguageTeacher:
        if self.is_new:
            if self.adapters is not None:
                raise ValueError("adapters need a pretrained teacher: name its folder as source")
            if not self.training.num_epochs:
                raise ValueError("training.num_epochs 0 needs a pretrained teacher")
            if self.vocabulary == "used":
                raise ValueError("a new teacher's vocabulary is of the task: vocabulary_size")
            return self
        own = {"vocabulary_size", "shape", "bare_words"} & self.model_fields_set
        if own:
            raise ValueError(
                f"{' and '.join(sorted(own, reverse=True))} are a new teacher's; a pretrained one "
                "brings its own: leave them out"
            )
        if self.adapters is not None and not self.training.num_epochs:
            raise ValueError("adapters need at least one epoch; without, leave them out")
        return self

    @property
    def is_new(self) -> bool:
        """Whether it is trained from nothing."""
        return self.source == "new"


class LanguageStudent(Section):
    """The small model: a Llama network, with the teacher's vocabulary unless it has its own."""

    source: Annotated[str, Field(min_length=1)] | None = None
    """A smaller pretrained Llama with the vocabulary of a pretrained teacher (named as there), or
    with another one and `distillation.tokens: aligned`; left out: a network of `shape`."""
    vocabulary_size: Annotated[int, Field(ge=300, le=65_536)] | None = None
    """Tokens of a vocabulary of the student's own, learned from the training rows; left out: the
    teacher's vocabulary. Needs `distillation.tokens: aligned`."""
    shape: LanguageModelShape = LanguageModelShape(
        hidden_size=128, num_layers=3, num_heads=4, num_kv_heads=2, intermediate_size=352
    )
    initialise: Literal["new", "teacher"] = "new"
    """`teacher`: cut out of the teacher's weights by layers and by the units most in use."""
    training: LanguageTraining = LanguageTraining()
    weight_types: Annotated[tuple[WeightType, ...], Field(min_length=1)] = (
        "f16", "q8_0_f16", "q8_0", "q5_0", "q4_0",
    )  # fmt: skip
    """Types of weights to try, the widest first; the smallest that keeps the score ships. Those
    named `onnx_…` run in ONNX Runtime, the others are GGUF and run in llama.cpp. Types of blocks
    are rounded by what 256 training rows use. `q8_0_f16`: the first block stays f16. `q6_k`,
    `q5_k`, `q4_k` need widths that are multiples of 256; other matrices get `q8_0`, `q5_1`,
    `q5_0`. `onnx_int4`: the layers in four bits by group of 128, tables and head in eight;
    `onnx_awq_int4`: inputs that are large on those rows get finer steps, and groups the steps that
    suit an output best; `onnx_gptq_int4`: what one input's rounding loses, later inputs make
    good."""

    @model_validator(mode="after")
    def _of_one_origin(self) -> LanguageStudent:
        if self.source is not None and {"shape", "initialise"} & self.model_fields_set:
            raise ValueError("source brings its own shape and weights: leave out the others")
        if not self.training.num_epochs:
            raise ValueError("training.num_epochs 0: a student has to be trained")
        if self.vocabulary_size is not None and (self.source or self.initialise == "teacher"):
            raise ValueError(
                "vocabulary_size is a new student's: one with source, or cut out of its teacher, "
                "brings a table of tokens"
            )
        return self

    @model_validator(mode="after")
    def _worth_four_bits(self) -> LanguageStudent:
        width, units = self.shape.hidden_size, self.shape.intermediate_size
        found = [kind for kind in self.weight_types if kind in FOUR_BITS]
        # The two matrices of gated units are stored as one; it is the largest but in odd shapes.
        if found and self.source is None and not is_large(2 * units, width):
            raise ValueError(
                f"weight_types {', '.join(found)}: of {width} x {units} no matrix has the "
                f"{MIN_BYTES // 4:,} weights from which four bits pay; take onnx_int8"
            )
        return self


class GenerationRequirements(BundleRequirements):
    """What the bundle must meet; each is judged on its confidence bound. Left out: not required."""

    retention: Annotated[float, Field(gt=0, le=1)] | None = 0.95
    """Least share of the teacher's test score (lower bound of the interval)."""
    latency_p95_ms: Annotated[float, Field(gt=0)] | None = None
    """Most milliseconds of a whole answer at the 95th percentile, one request at a time."""
    valid: Fraction | None = None
    """Least share of answers that are whole and meet the schema (lower bound)."""


class GenerationSpec(Section):
    """A narrow generation task, its boundary, its requirements and its budget."""

    schema_version: Literal[1] = 1
    """Version of this file format."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    """Name of the task: lower-case letters, digits, hyphens; names the run folder."""
    description: str = ""
    """One sentence for people."""
    kind: Literal["generation"]
    """Kind of task."""
    input: GenerationInput = GenerationInput()
    output: GenerationOutput = GenerationOutput()
    boundary: BoundarySpec = BoundarySpec()
    data: ConversationData
    template: Literal["plain", "llama3", "chatml", "tokenizer"] = "plain"
    """How a conversation becomes one text for the model. `plain`: one mark a turn; `llama3`,
    `chatml`: as models of that family know it; `tokenizer`: the pretrained teacher's own chat
    template or, where it has none, only its marks of the beginning and the end."""
    teacher: LanguageTeacher = LanguageTeacher()
    student: LanguageStudent = LanguageStudent()
    distillation: TokenDistillation = TokenDistillation()
    requirements: GenerationRequirements = GenerationRequirements()
    budget: BudgetSpec = BudgetSpec()
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""

    @model_validator(mode="after")
    def _pretrained_alone(self) -> GenerationSpec:
        if self.teacher.is_new and self.template == "tokenizer":
            raise ValueError("template tokenizer needs a pretrained teacher: a new one has none")
        if self.teacher.is_new and self.student.source is not None:
            raise ValueError(
                "student.source needs a pretrained teacher: a new one learns another vocabulary"
            )
        if self.student.source is not None and self.teacher.vocabulary == "used":
            raise ValueError(
                "student.source brings the whole vocabulary: set teacher.vocabulary to whole"
            )
        return self

    @model_validator(mode="after")
    def _tokens_that_fit(self) -> GenerationSpec:
        if self.student.vocabulary_size is not None:
            if not self.distillation.is_aligned:
                raise ValueError(
                    "with student.vocabulary_size student and teacher have other tokens, which "
                    "cannot be compared one by one: set distillation.tokens to aligned"
                )
            if self.template == "tokenizer":
                raise ValueError(
                    "student.vocabulary_size needs a template that comes with the product: "
                    "template tokenizer is of a vocabulary that is there already"
                )
        elif self.distillation.is_aligned and self.student.source is None:
            raise ValueError(
                "distillation.tokens aligned is for a student with tokens of its own: name "
                "student.vocabulary_size or student.source, or set tokens to same"
            )
        return self

    @model_validator(mode="after")
    def _beams_in_onnx(self) -> GenerationSpec:
        gguf = [kind for kind in self.student.weight_types if not kind.startswith("onnx_")]
        if self.output.beams > 1 and gguf:
            raise ValueError(
                f"llama.cpp has no beam search: output.beams {self.output.beams} needs "
                f"student.weight_types of ONNX alone ({', '.join(ONNX_TYPES)}), "
                f"not {', '.join(gguf)}"
            )
        return self
