"""How a student may learn from its teacher: the settings of each strategy.

What a strategy does stands beside its arithmetic, in `train/distill`; here is what a task file may
say of it, so that a wrong name or setting is refused before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapValidator,
    model_validator,
)

from edgedistill.core.signals import Signal

Index = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _layer_map(value: Any, validate: Callable[[Any], Any]) -> Any:
    """One complaint for what is none of the forms, instead of one a form."""
    try:
        return validate(value)
    except ValidationError as error:
        raise ValueError(
            "must be uniform, deepest, last, or a list of pairs "
            "[the student's layer, the teacher's]"
        ) from error


NamedMap: TypeAlias = Literal["uniform", "deepest", "last"]
LayerMap: TypeAlias = Annotated[
    NamedMap | Annotated[tuple[tuple[Index, Index], ...], Field(min_length=1)],
    WrapValidator(_layer_map),
]


class StrategySettings(BaseModel):
    """What every part of a strategy has."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    weight: Weight = 1.0
    """Factor of this part in the sum that is minimised, when training begins."""
    final_weight: Weight | None = None
    """Its factor when training ends, reached in a straight line; left out: `weight` throughout."""

    @property
    def internals(self) -> frozenset[Signal]:
        """What this part compares of the insides of student and teacher."""
        return frozenset()


class ResponseSettings(StrategySettings):
    """Match the teacher's answers: its logits for every text."""

    name: Literal["response"] = "response"
    """Name of the strategy."""
    loss: Literal["kl", "mse", "decoupled"] = "kl"
    """`kl`: divergence of the softened distributions; `mse`: squared difference of the logits;
    `decoupled`: the divergence in two parts, on the target class and among all others."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Softening of both distributions; left out: `distillation.temperature`."""
    hard_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the true labels; left out: `distillation.hard_weight`."""
    energy_weight: Weight | None = None
    """Weight of matching the teacher's energy; left out: `distillation.energy_weight`."""
    target_weight: Weight = 1.0
    """With `decoupled`: weight of the target class against all others."""
    non_target_weight: Weight = 1.0
    """With `decoupled`: weight of the distribution among the others."""

    @model_validator(mode="after")
    def _has_only_what_it_uses(self) -> ResponseSettings:
        unused = {"temperature"} if self.loss == "mse" else set()
        if self.loss != "decoupled":
            unused |= {"target_weight", "non_target_weight"}
        if given := sorted(unused & self.model_fields_set):
            raise ValueError(f"loss {self.loss} has no {given[0]}")
        return self


class FeatureSettings(StrategySettings):
    """Match the teacher's hidden states, token by token."""

    name: Literal["feature"] = "feature"
    """Name of the strategy."""
    layers: LayerMap = "uniform"
    """Which layer learns from which: `uniform` spreads the student's layers over the teacher's,
    `deepest` takes the teacher's last ones in order, `last` the last of both alone; or pairs, both
    counted from 0."""
    loss: Literal["mse", "cosine"] = "mse"
    """`mse`: squared difference, mean over the width; `cosine`: one minus the cosine."""
    project: bool | None = None
    """Whether a linear map, trained along and not shipped, leads from the student's states to the
    teacher's; left out: where their widths differ."""

    @property
    def internals(self) -> frozenset[Signal]:
        """Hidden states."""
        return frozenset({Signal.STATES})


class AttentionSettings(StrategySettings):
    """Match the teacher's attention maps: which token looks at which."""

    name: Literal["attention"] = "attention"
    """Name of the strategy."""
    layers: LayerMap = "uniform"
    """Which layer learns from which, as for `feature`."""
    loss: Literal["kl", "mse"] = "kl"
    """`kl`: divergence of where a token looks; `mse`: squared difference, summed over where."""
    heads: Literal["pairs", "mean", "nearest"] | None = None
    """`pairs`: head by head, in order; `mean`: the mean map of all heads; `nearest`: each head of
    the student learns from the teacher's whose maps are nearest to its own in the batch. Left out:
    `pairs` where both have as many heads, else `mean`."""

    @property
    def internals(self) -> frozenset[Signal]:
        """Attention maps."""
        return frozenset({Signal.ATTENTIONS})


class RelationSettings(StrategySettings):
    """Match how the teacher's tokens relate to each other, whatever the widths."""

    name: Literal["relation"] = "relation"
    """Name of the strategy."""
    layers: LayerMap = "last"
    """Which layer learns from which, as for `feature`."""
    of: Annotated[
        tuple[Literal["attention", "query", "key", "value"], ...], Field(min_length=1)
    ] = ("attention", "value")
    """What is related: `attention` queries with keys; the others each with themselves."""
    num_heads: Annotated[int, Field(ge=1)] | None = None
    """Groups that both inner widths are cut into, each with relations of its own; left out: the
    most that both numbers of heads can be cut into."""

    @property
    def internals(self) -> frozenset[Signal]:
        """The vectors that attention works with."""
        needed = {
            "attention": {Signal.QUERIES, Signal.KEYS},
            "query": {Signal.QUERIES},
            "key": {Signal.KEYS},
            "value": {Signal.VALUES},
        }
        return frozenset().union(*(needed[kind] for kind in self.of))

    @model_validator(mode="after")
    def _distinct(self) -> RelationSettings:
        if len(set(self.of)) != len(self.of):
            raise ValueError("of: each relation once")
        return self


class ConsistencySettings(StrategySettings):
    """Give the same answer to two views of a text, each without some of its tokens."""

    name: Literal["consistency"] = "consistency"
    """Name of the strategy."""
    token_dropout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the tokens that a view leaves out; the first token always stays."""


class AverageSettings(StrategySettings):
    """Match the answers of the student's own running average of weights."""

    name: Literal["average"] = "average"
    """Name of the strategy."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Share of the average that is kept at each step; the first steps keep less."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Softening of both distributions."""


class ShallowSettings(StrategySettings):
    """Let the student's deepest layer teach heads on its shallower ones, which do not ship."""

    name: Literal["shallow"] = "shallow"
    """Name of the strategy."""
    layers: Annotated[tuple[Index, ...], Field(min_length=1)] | None = None
    """The layers that are taught, counted from 0; left out: all but the last."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Softening of both distributions."""

    @property
    def internals(self) -> frozenset[Signal]:
        """Hidden states, of the student alone."""
        return frozenset({Signal.STATES})

    @model_validator(mode="after")
    def _distinct(self) -> ShallowSettings:
        if self.layers is not None and len(set(self.layers)) != len(self.layers):
            raise ValueError("layers: each layer once")
        return self


class CurriculumSpec(BaseModel):
    """Texts in order of difficulty: easy ones first, more as the student comes no closer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    by: Literal["confidence", "length", "loss", "stage"] = "confidence"
    """What is easy: `confidence`, texts whose answer to be learned is sure; `length`, short ones;
    `loss`, those that the student answers best before its training; `stage`, in four parts, the
    surer half of the texts, the other half, then those made as edge cases, then as adversarial."""
    parts: Annotated[int, Field(ge=2, le=100)] = 4
    """Parts of equal size that the texts are cut into; training begins with the easiest. Not with
    `stage`, which has its own."""
    all_by: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the planned epochs after which all parts are open at the latest."""

    @model_validator(mode="after")
    def _has_only_what_it_uses(self) -> CurriculumSpec:
        if self.by == "stage" and "parts" in self.model_fields_set:
            raise ValueError("by stage has no parts: its stages are the parts")
        return self


StrategyName: TypeAlias = Literal[
    "response", "feature", "attention", "relation", "consistency", "average", "shallow"
]
AnyStrategy: TypeAlias = Annotated[
    ResponseSettings
    | FeatureSettings
    | AttentionSettings
    | RelationSettings
    | ConsistencySettings
    | AverageSettings
    | ShallowSettings,
    Field(discriminator="name"),
]


def _as_list(value: Any) -> Any:
    """A name stands for the strategy with its defaults, one entry for a list of one."""
    entries = value if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(entry, (str, dict, StrategySettings)) for entry in entries):
        raise ValueError("must be the name of a strategy, or a list of names and mappings")
    return tuple({"name": entry} if isinstance(entry, str) else entry for entry in entries)


def _require_whole(strategy: tuple[AnyStrategy, ...]) -> tuple[AnyStrategy, ...]:
    """Refuse parts that together teach nothing, or never an answer."""
    if not any(isinstance(part, ResponseSettings) for part in strategy):
        raise ValueError("needs response among its parts: no other teaches the answers")
    if not any(part.weight or part.final_weight for part in strategy):
        raise ValueError("the weights of its parts are all 0")
    return strategy


Strategies: TypeAlias = Annotated[
    tuple[AnyStrategy, ...],
    BeforeValidator(
        _as_list,
        json_schema_input_type=StrategyName | AnyStrategy | list[StrategyName | AnyStrategy],
    ),
    AfterValidator(_require_whole),
]
