"""What every distillation strategy promises, on a student that can be read and its teacher."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from edgedistill.core.protocols import Batch, Signal
from edgedistill.core.strategies import Strategies, StrategyName
from edgedistill.models.families import FAMILIES
from edgedistill.models.internals import NetworkShape, teacher_internals
from edgedistill.models.students import truncated
from edgedistill.models.students.family import Material
from edgedistill.models.students.truncated import TruncatedConfig
from edgedistill.train.distill.combined import Combined, Learner
from edgedistill.train.distill.response import ResponseConfig
from edgedistill.train.distill.strategies import STRATEGIES, asked_layers, weighted_parts

TEACHER = NetworkShape(6, 256, 4, 64)
FORMS: Any = TypeAdapter(Strategies)
#: Every strategy with its defaults, and every other loss.
PARTS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in STRATEGIES},
    "response mse": {"name": "response", "loss": "mse"},
    "response decoupled": {"name": "response", "loss": "decoupled", "temperature": 3.0},
    "feature cosine": {"name": "feature", "loss": "cosine", "layers": "last"},
    "attention mse": {"name": "attention", "loss": "mse", "heads": "mean"},
    "attention nearest": {"name": "attention", "heads": "nearest", "layers": [[0, 0], [1, 5]]},
    "relation of all": {"name": "relation", "of": ["query", "key", "value"], "num_heads": 16},
}
Build = Callable[[str, str], nn.Module]


def batch(material: Material, layers: dict[Signal, tuple[int, ...]], extra: int = 0) -> Batch:
    """Six texts, padded by `extra` columns more than they need."""
    ids, mask = (torch.from_numpy(a) for a in material.train.padded(np.arange(6), material.pad_id))
    ids = nn.functional.pad(ids, (0, extra), value=material.pad_id)
    mask = nn.functional.pad(mask, (0, extra))
    with torch.no_grad():
        logits = material.teacher(ids, mask).logits * 20
    labels = torch.from_numpy(material.targets[:6]).clone()
    labels[4:] = -1
    inside = teacher_internals(material.teacher, ids, mask, layers) if layers else {}
    return Batch(ids, mask, labels, {Signal.LOGITS: logits, **inside})


def lesson(
    material: Material, build: Build, name: str, preset: str = "2-layers"
) -> tuple[Combined, Learner, Batch]:
    """The strategy as the only part beside a response that weighs nothing."""
    family = "small_transformer" if preset == "2x192" else "truncated"
    entry = FAMILIES.load(family)
    assert entry.shape is not None
    shape = entry.shape(entry.config(**entry.presets[preset]), TEACHER)
    settings = FORMS.validate_python(
        [{"name": "response", "weight": 0.0, "final_weight": 1.0}, PARTS[name]]
    )
    parts = weighted_parts(settings, ResponseConfig(), shape, TEACHER)[1:]
    layers = asked_layers(parts)
    step = Combined(parts, layers=layers)
    torch.manual_seed(1)
    student = build(family, preset).train()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return step, step.learner(student), batch(material, layers)


def total(step: Combined, learner: Learner, given: Batch) -> torch.Tensor:
    terms = step(learner, given, rng=torch.Generator().manual_seed(0))
    assert all(value.shape == () and math.isfinite(value.item()) for value in terms.values())
    return torch.stack(list(terms.values())).sum()


def test_every_strategy_has_settings_and_the_other_way_round() -> None:
    assert set(STRATEGIES) == set(get_args(StrategyName))
    assert len(STRATEGIES) >= 7
    for name in STRATEGIES:
        (settings, *_) = FORMS.validate_python([{"name": name}, "response"])
        form = type(settings)
        assert settings.name == name
        assert re.match(r"[A-Z].+\.$", (form.__doc__ or "").splitlines()[0])
        assert all(info.description for info in form.model_fields.values())
        with pytest.raises(ValidationError, match="frozen"):
            settings.weight = 2.0
        with pytest.raises(ValidationError, match="not permitted"):
            form(name=name, no_such_setting=1)


@pytest.mark.parametrize("preset", ["2-layers", "2x192"])
@pytest.mark.parametrize("name", [n for n in PARTS if n != "average"])
def test_a_step_down_the_gradient_lowers_the_loss(
    material: Material, build: Build, name: str, preset: str
) -> None:
    step, learner, given = lesson(material, build, name, preset)
    before = total(step, learner, given)
    assert float(before.detach()) > 0
    before.backward()
    reached = {n for n, p in learner.named_parameters() if p.grad is not None and p.grad.any()}
    assert "student.embedding.tokens.weight" in reached
    assert any(".qkv." in parameter for parameter in reached)
    assert {n for n, _ in learner.named_parameters() if n.startswith("learned.")} <= reached
    slope = math.sqrt(sum(float(p.grad.square().sum()) for p in learner.parameters()
                          if p.grad is not None))  # fmt: skip
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 / slope * parameter.grad
    assert float(total(step, learner, given).detach()) < float(before.detach())


@pytest.mark.parametrize("name", [n for n in PARTS if n not in ("average", "consistency")])
def test_padding_changes_nothing(material: Material, build: Build, name: str) -> None:
    step, learner, given = lesson(material, build, name)
    wider = batch(material, {s: tuple(layers) for s, layers in step.layers.items()}, extra=3)
    assert wider.input_ids.shape[1] == given.input_ids.shape[1] + 3
    with torch.no_grad():
        values = [float(total(step, learner, each)) for each in (given, wider)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("name", [n for n in PARTS if n not in ("shallow", "consistency")])
@pytest.mark.parametrize("is_half", [False, True])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    material: Material, name: str, is_half: bool
) -> None:
    config = TruncatedConfig(layers=tuple(range(6)))
    student = truncated.build(material.teacher, material.kept, config)
    settings = FORMS.validate_python(["response", PARTS[name] | {"weight": 1000.0}])
    if name == "attention nearest":  # its pairs are of other layers
        settings = FORMS.validate_python(["response", {"name": "attention", "heads": "nearest"}])
    parts = weighted_parts(settings, ResponseConfig(), TEACHER, TEACHER)[1:]
    layers = asked_layers(parts)
    step = Combined(parts, layers=layers)
    given = batch(material, layers)
    logits = given.signals[Signal.LOGITS] / 20
    given = replace(given, signals={**given.signals, Signal.LOGITS: logits})
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_half):
        value = total(step, step.learner(student), given)
    assert value.dtype is torch.float32
    # In half precision the networks are off by a part in 256, their comparison is not.
    assert abs(float(value)) < (2.0 if is_half else 1e-3)


@pytest.mark.parametrize("name", PARTS)
def test_a_batch_without_labels_stays_finite(material: Material, build: Build, name: str) -> None:
    step, learner, given = lesson(material, build, name)
    total(step, learner, replace(given, labels=torch.full((6,), -1)))
