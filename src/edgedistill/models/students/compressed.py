"""The teacher itself, changed by structural passes: compression without a smaller student.

Everything is the teacher's: without a pass, the student *is* the teacher. Passes of several rounds
are for training in between, which whoever builds one in rounds sees to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgedistill.core.compression import RECIPES, refuse_senseless
from edgedistill.core.structural import AnyStructural
from edgedistill.models.structure.catalogue import STRUCTURAL_PASSES
from edgedistill.models.structure.given import Evidence, Given
from edgedistill.models.structure.shape import Shape, num_parameters
from edgedistill.models.structure.whole import whole_network
from edgedistill.models.students.bert_blocks import TransformerStudent
from edgedistill.models.students.family import Material, Recipe, Shrinking, StudentFamily

#: Of a truncated student: what is recovered has as far to come back.
RECIPE = Recipe(
    num_epochs=3, control_epochs=5, learning_rate=5e-4, batch_size=64,
    least_steps=300, temperature=2.0,
    precision="bf16",
)  # fmt: skip
#: Channels up to which that learning rate does.
RATE_WIDTH = 384


class CompressedConfig(BaseModel):
    """What is done to the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    passes: tuple[AnyStructural, ...] = Field(default=RECIPES["balanced"], validate_default=True)
    """Passes on the network, in their order; with a section `compress` they are named there."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak of the training that recovers; left out: 5e-4 for states of up to 384 channels, less by
    the square of the width above (1.25e-4 for 768)."""

    @model_validator(mode="after")
    def _in_order(self) -> CompressedConfig:
        refuse_senseless([each.name for each in self.passes], "passes")
        return self


def rounds_of(config: CompressedConfig) -> list[list[Any]]:
    """Settings of what is done in each round, before the training that ends it."""
    rounds: list[list[Any]] = [[]]
    for each in config.passes:
        num = getattr(each, "rounds", 1)
        for place in range(num):
            if place:
                rounds.append([])
            rounds[-1].append(_part(each, place, num) if num > 1 else each)
    return rounds


def _part(settings: Any, place: int, num: int) -> Any:
    """One of `num` parts of a pass: equal shares of what was there at first, each told as a share
    of what is left."""
    share = settings.share
    left = 1.0 - share * place / num
    return settings.model_copy(update={"share": share / num / left, "rounds": 1})


def given(material: Material) -> Given:
    """What passes are given, of what a student may be built from."""
    evidence = Evidence.of(material.teacher, material.train, material.pad_id, material.tagged)
    return Given(material.kept, evidence)


def begin(material: Material) -> TransformerStudent:
    """The teacher as a network of our blocks."""
    return whole_network(material.teacher, max_tokens=material.max_tokens)


def shrink(
    network: TransformerStudent, passes: list[Any], basis: Given
) -> tuple[TransformerStudent, list[dict[str, Any]]]:
    """The network after some passes, and what is left after each of them."""
    told = []
    for settings in passes:
        network = STRUCTURAL_PASSES.load(settings.name)(network, settings, basis)
        told.append(account(network, settings))
    return network, told


def account(network: TransformerStudent, settings: Any | None = None) -> dict[str, Any]:
    """What a network is made of, and by which pass; plain values."""
    whole, layers = num_parameters(network)
    return {
        "pass": settings.model_dump(mode="json") if settings else None,
        "shape": Shape.of(network).as_json(),
        "parameters": whole,
        "layer_parameters": layers,
    }


def restore(shape: Mapping[str, Any]) -> TransformerStudent:
    """A network of these sizes, for weights that were saved."""
    return Shape.from_json(shape).network()


def recipe_of(config: CompressedConfig, network: TransformerStudent) -> Recipe:
    """How a network of this width is trained."""
    width = network.embedding.positions.shape[1]
    rate = RECIPE.learning_rate * min(1.0, (RATE_WIDTH / width) ** 2)
    return replace(RECIPE, learning_rate=config.learning_rate or rate)


def _build(material: Material, config: CompressedConfig) -> TransformerStudent:
    """Everything at once, without training in between."""
    torch.manual_seed(material.seed)
    network, basis = begin(material), given(material)
    for passes in rounds_of(config):
        network, _ = shrink(network, passes, basis)
    return network


def _size_bytes(
    config: CompressedConfig, num_rows: int, num_labels: int, teacher: Mapping[str, Any]
) -> int:
    """Of INT8 weights with a scale a row or channel, by the sizes that the passes ask for."""
    hidden = float(teacher["hidden_size"])
    num_layers, rows = int(teacher["num_hidden_layers"]), int(teacher["vocab_size"])
    attention, inner = 1.0, float(teacher.get("intermediate_size", 4 * hidden))
    whole, rank, product = hidden, hidden, 1.0
    for each in config.passes:
        share = getattr(each, "share", 0.0)
        if each.name == "prune_vocabulary":
            rows = num_rows
        elif each.name == "drop_layers":
            num_layers = max(1, num_layers - round(share * num_layers))
        elif each.name == "prune_hidden":
            hidden = rank = hidden * (1 - share)
        elif each.name == "factorise_embeddings":
            rank = each.rank * min(hidden, rows)
        elif each.name == "factorise_linear":
            product = min(1.0, each.rank * 4 / 3)
        if each.name in ("prune_heads", "prune_encoder"):
            attention *= 1 - share
        if each.name in ("prune_neurons", "prune_encoder"):
            inner *= 1 - share
    layer = product * (4 * hidden * whole * attention + 2 * hidden * inner) + 40 * hidden
    table = rows * (rank + 4) + (4 * rank * hidden if rank < hidden else 0)
    return round(num_layers * layer + table + 4 * 64 * hidden + hidden * num_labels + 40_000)


FAMILY = StudentFamily(
    config=CompressedConfig,
    presets={name: {"passes": list(passes)} for name, passes in RECIPES.items()},
    build=_build,
    recipe=RECIPE,
    size_bytes=_size_bytes,
    shrinking=Shrinking(begin, given, rounds_of, shrink, account, restore, recipe_of),
)
