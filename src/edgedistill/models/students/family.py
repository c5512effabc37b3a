"""What a student family tells: its settings, how one is built, and how one is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.models.internals import NetworkShape
from edgedistill.models.structure.given import Tagged
from edgedistill.models.students.vocabulary import KeptVocabulary


@dataclass(frozen=True)
class Recipe:
    """How students of a family are trained by default: settings of the loop, and the temperature
    of response distillation. `control_epochs`, `control_batch_size`: for the same network on labels
    alone, which sees far fewer texts an epoch. `least_steps`: small data sets get more epochs,
    until training has this many steps."""

    num_epochs: int
    control_epochs: int
    learning_rate: float
    batch_size: int
    least_steps: int
    temperature: float
    embedding_rate: float | None = None
    patience: int = 3
    control_batch_size: int | None = None
    precision: str = "fp32"
    weight_decay: float = 0.01
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Material:
    """What a student may be built from.

    `train`, `targets` (int64 [n]): the labelled training texts. `max_tokens`: longest input.
    `tagged`: of tasks whose rows are the tokens of those texts.
    """

    teacher: nn.Module
    kept: KeptVocabulary
    train: Encoded
    targets: np.ndarray
    num_labels: int
    max_tokens: int
    pad_id: int
    seed: int
    tagged: Tagged | None = None


@dataclass(frozen=True)
class Shrinking:
    """How students of a family lose their structure round by round, each followed by training.

    `begin(material)`: the network before anything is done to it. `given(material)`: what every pass
    is given. `rounds(config)`: the passes of each round. `shrink(network, passes, given)`: the
    network after them, and the `account` of each. `account(network)`: what a network is made of,
    its `shape` among it. `restore(shape)`: a network of that shape, for weights that were saved.
    `recipe(config, network)`: how this network is trained.
    """

    begin: Callable[[Material], nn.Module]
    given: Callable[[Material], Any]
    rounds: Callable[[Any], list[list[Any]]]
    shrink: Callable[[Any, list[Any], Any], tuple[nn.Module, list[dict[str, Any]]]]
    account: Callable[[Any], dict[str, Any]]
    restore: Callable[[Mapping[str, Any]], nn.Module]
    recipe: Callable[[Any, Any], Recipe]


@dataclass(frozen=True)
class StudentFamily:
    """A family of students.

    `presets`: what `auto` tries, by name. `recipe` is None where `build` returns a model that is
    already fitted (no teacher, no loop). `size_bytes(config, num_rows, num_labels, teacher)`:
    bytes of model with INT8 weights, before anything is trained; `teacher` is its config.json.
    `shape(config, teacher)`: of a student whose inside can be read
    (`models.internals.TellsInside`); None where it cannot. `shrinking`: of students whose sizes
    follow from what is measured on the teacher, not from their settings alone.
    """

    config: type[BaseModel]
    presets: Mapping[str, Any]
    build: Callable[[Material, Any], nn.Module]
    recipe: Recipe | None
    size_bytes: Callable[[Any, int, int, Mapping[str, Any]], int]
    shape: Callable[[Any, NetworkShape], NetworkShape] | None = None
    shrinking: Shrinking | None = None
