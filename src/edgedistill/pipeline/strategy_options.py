"""What `strategy: auto` tries: each strategy with weights that are sensible to begin with, then
other weights and layer maps of the best one, and combinations of the best two or three."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import yaml

from edgedistill.core.errors import MissingSignal, SpecError
from edgedistill.core.strategies import (
    AnyStrategy,
    AttentionSettings,
    AverageSettings,
    ConsistencySettings,
    CurriculumSpec,
    FeatureSettings,
    NamedMap,
    RelationSettings,
    ResponseSettings,
    ShallowSettings,
)

#: Say of a part beside the answers, in balance with them; and what else the best one is tried with.
WEIGHT = 0.3
OTHER_WEIGHTS = (1.0, 0.1)
MAPS: tuple[NamedMap, ...] = get_args(NamedMap)
#: Most options that `refined` gives.
MOST_REFINED = len(OTHER_WEIGHTS) + len(MAPS) - 1 + 3
#: Share of the labels where they are tried beside the teacher's answers.
LABELS_SHARE = 0.3
PLAIN = ResponseSettings()


@dataclass(frozen=True)
class Option:
    """A way to distil, as far as it differs from plain `response`.

    `response`: what is learned of the answers; `more`: parts beside it. `least_epochs`: trainings
    shorter than this say nothing of it.
    """

    name: str
    response: ResponseSettings = PLAIN
    more: tuple[AnyStrategy, ...] = ()
    curriculum: CurriculumSpec | None = None
    generations: int = 1
    least_epochs: int = 1

    def changes(self) -> dict[str, Any]:
        """The settings of distillation that it sets, as values of that section."""
        changes: dict[str, Any] = {"strategy": (self.response, *self.more)}
        if self.more:
            changes["balance"] = True
        if self.curriculum:
            changes["curriculum"] = self.curriculum
        if self.generations > 1:
            changes["generations"] = self.generations
        return changes

    def told(self) -> str:
        """Its settings in one line, as a task file takes them."""
        strategy = [_entry(part) for part in (self.response, *self.more)]
        changes = self.changes() | {"strategy": strategy[0] if len(strategy) == 1 else strategy}
        if self.curriculum:
            changes["curriculum"] = self.curriculum.model_dump(mode="json")
        line = yaml.safe_dump(changes, default_flow_style=True, sort_keys=False, width=10**6)
        return line.strip().removeprefix("{").removesuffix("}")


RESPONSE = Option("response")


def single_options(*, curriculum: bool, generations: bool, labels: bool) -> list[Option]:
    """What is tried first, plain `response` before all others.

    Args:
        curriculum, generations, labels: whether these are still free, not said by the task.
    """
    beside: dict[str, AnyStrategy] = {
        "feature": FeatureSettings(weight=WEIGHT),
        "attention": AttentionSettings(weight=WEIGHT),
        "relation": RelationSettings(weight=WEIGHT),
        "consistency": ConsistencySettings(weight=WEIGHT),
        "average": AverageSettings(weight=WEIGHT),
        "shallow": ShallowSettings(weight=WEIGHT),
    }
    first = FeatureSettings(weight=1.0, final_weight=0.0)
    later = ResponseSettings(weight=0.0, final_weight=1.0)
    options = [
        RESPONSE,
        *(Option(name, more=(part,)) for name, part in beside.items()),
        Option("feature first", later, (first,)),
        Option("squared logits", ResponseSettings(loss="mse")),
        Option("decoupled", ResponseSettings(loss="decoupled", non_target_weight=2.0)),
    ]
    if labels:
        options.append(Option("labels", ResponseSettings(hard_weight=LABELS_SHARE)))
    if curriculum:
        # Shorter ones have nothing between its easiest part and all of them.
        options.append(Option("curriculum", curriculum=CurriculumSpec(), least_epochs=3))
    if generations:
        options.append(Option("2 generations", generations=2))
    return options


def applicable(
    options: Sequence[Option], require: Callable[[Option], object]
) -> tuple[list[Option], list[tuple[str, str]]]:
    """Those that student and teacher can follow, and the others as (name, reason).

    Args:
        require: raises MissingSignal or SpecError for an option that does not apply.

    Raises:
        MissingSignal, SpecError: not even the first option, plain response, applies.
    """
    found, left_out = [], []
    for option in options:
        try:
            require(option)
        except (MissingSignal, SpecError) as error:
            if option is options[0]:
                raise
            left_out.append((option.name, error.what))
        else:
            found.append(option)
    return found, left_out


def refined(best: Sequence[Option]) -> list[Option]:
    """Other weights and layer maps of the best option, and combinations of the best two or three.

    Args:
        best: the best options besides plain `response`, in their order.
    """
    found = []
    if best and len(best[0].more) == 1 and best[0].response == PLAIN:
        for weight in OTHER_WEIGHTS:
            part = best[0].more[0].model_copy(update={"weight": weight})
            found.append(replace(best[0], name=f"{best[0].name} x {weight:g}", more=(part,)))
        found += other_maps(best[0])
    groups = [best[:2], [*best[:1], *best[2:3]], best[:3]]
    sizes = (2, 2, 3)
    for group, size in zip(groups, sizes, strict=True):
        together = combined(group) if len(group) == size else None
        if together:
            found.append(together)
    return found


def other_maps(option: Option) -> list[Option]:
    """An option whose one part compares layers, with the other maps between them; else none."""
    if len(option.more) != 1:
        return []
    (part,) = option.more
    if not isinstance(part, (FeatureSettings, AttentionSettings, RelationSettings)):
        return []
    return [
        replace(option, name=f"{option.name}, {name} layers",
                more=(part.model_copy(update={"layers": name}),))
        for name in MAPS if name != part.layers
    ]  # fmt: skip


def combined(options: Sequence[Option]) -> Option | None:
    """All of them at once; None where two say different things of the same."""
    responses = [option.response for option in options if option.response != PLAIN]
    more = [part for option in options for part in option.more]
    if len(responses) > 1 or len({part.name for part in more}) < len(more):
        return None
    return Option(
        " + ".join(option.name for option in options),
        responses[0] if responses else PLAIN,
        tuple(more),
        next((option.curriculum for option in options if option.curriculum), None),
        max(option.generations for option in options),
        max(option.least_epochs for option in options),
    )


def _entry(part: AnyStrategy) -> Any:
    """A part as a task file names it."""
    settings = part.model_dump(mode="json", exclude_defaults=True)
    return {"name": part.name, **settings} if settings else part.name
