"""What the benchmark of strategies compares: each strategy with the settings that are tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgedistill.models.students.truncated import RECIPE

Role = Literal["teacher", "control", "student"]


@dataclass(frozen=True)
class Strategy:
    """One row of a case's table.

    `family`: of the kinds that the results speak of. `tries`: what it changes in the section
    `distillation`; where there are two, validation chooses. `role`: whose answers are scored; a
    control is the same student trained on labels alone. `has_second_teacher`: another
    fine-tuned teacher answers too.
    """

    name: str
    family: str
    tries: tuple[Mapping[str, Any], ...] = ({},)
    role: Role = "student"
    has_second_teacher: bool = False

    @property
    def is_baseline(self) -> bool:
        """Whether others are measured against it: it is never the best choice itself."""
        return self.family in ("teacher", "none", "plain")


TEACHER = Strategy("the teacher itself", "teacher", role="teacher")
NONE = Strategy("no distillation", "none", role="control")
PLAIN = Strategy("response", "plain")
BASELINES = (TEACHER, NONE, PLAIN)
#: Students that are distilled get fewer epochs here than the controls of encoders, which follow the
#: family's recipe; this one gets as many. Who writes JSON has a control of equal length.
CONTROL_EPOCHS = RECIPE.control_epochs
AS_LONG = Strategy("response, as long as no distillation", "plain",
                   ({"num_epochs": CONTROL_EPOCHS},))  # fmt: skip


def _parts(*parts: str | Mapping[str, Any], balance: bool = True) -> dict[str, Any]:
    """Response beside other parts; losses of other scales are brought to the same one."""
    return {"strategy": ["response", *parts], "balance": balance}


def _weights(name: str, *weights: float, balance: bool, **settings: Any) -> tuple[Any, ...]:
    """One part beside response, with several weights."""
    return tuple(
        _parts({"name": name, "weight": weight, **settings}, balance=balance) for weight in weights
    )


def encoder_strategies(assistant: Mapping[str, Any]) -> tuple[Strategy, ...]:
    """Of classification and extraction. `assistant`: the student in between."""
    both = [
        _parts({"name": "feature", "weight": w}, {"name": "attention", "weight": w})
        for w in (0.3, 1.0)
    ]
    decoupled = [
        {"strategy": {"name": "response", "loss": "decoupled", "non_target_weight": w}}
        for w in (2.0, 8.0)
    ]
    curriculum = {"curriculum": {"by": "confidence", "parts": 2}}
    staged = {
        "strategy": [
            {"name": "feature", "weight": 1.0, "final_weight": 0.0},
            {"name": "response", "weight": 0.0, "final_weight": 1.0},
        ],
        "balance": True,
    }
    mixtures = [{"mixture": {"weighting": w}} for w in ("static", "confidence")]
    return (
        *BASELINES,
        AS_LONG,
        Strategy("response and labels", "response", ({"hard_weight": 0.3},)),
        Strategy("response, mse", "response", ({"strategy": {"name": "response", "loss": "mse"}},)),
        Strategy("response, decoupled", "response", tuple(decoupled)),
        Strategy("feature", "inside", _weights("feature", 0.3, 1.0, balance=True)),
        Strategy("attention", "inside", _weights("attention", 0.3, 1.0, balance=True)),
        Strategy("relation", "inside", _weights("relation", 0.3, 1.0, balance=True)),
        Strategy("feature and attention", "inside", tuple(both)),
        Strategy("consistency", "consistency", _weights("consistency", 0.3, balance=False)),
        Strategy("average", "self", _weights("average", 0.5, balance=False)),
        Strategy("shallow", "self", _weights("shallow", 0.3, balance=False)),
        Strategy("generations", "self", ({"generations": 2},)),
        Strategy("curriculum", "progressive", (curriculum,)),
        Strategy("staged: feature, then response", "progressive", (staged,)),
        Strategy("assistant", "progressive", ({"assistants": [dict(assistant)]},)),
        Strategy("two teachers", "several teachers", tuple(mixtures), has_second_teacher=True),
    )


def language_strategies() -> tuple[Strategy, ...]:
    """Of generation: which answers are learned, by which divergence, and whose they are."""
    own = [{"on_policy": share, "divergence": "jensen_shannon"} for share in (0.1, 0.3)]
    made = {"augmentation": {"num_texts": 2000}}
    return (
        *BASELINES,
        Strategy("reverse KL", "divergence", ({"divergence": "reverse_kl"},)),
        Strategy("Jensen-Shannon", "divergence", ({"divergence": "jensen_shannon"},)),
        Strategy("skewed KL", "divergence", ({"divergence": "skewed_kl"},)),
        Strategy("the teacher's texts alone", "texts", ({"texts": "teacher", "hard_weight": 1.0},)),
        Strategy("both texts, response", "texts", ({"texts": "both"},)),
        Strategy("made prompts, response", "texts", (made,)),
        Strategy("the student's own answers", "self", tuple(own)),
    )


def chosen(all_of: Sequence[Strategy], names: Sequence[str] | None) -> tuple[Strategy, ...]:
    """Those of the names, baselines always among them; None: all."""
    if names is None:
        return tuple(all_of)
    return tuple(s for s in all_of if s.is_baseline or s.name in names)
