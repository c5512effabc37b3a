"""What is kept of a Llama when a student is cut out of it."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from edgedistill.core.errors import ModelError
from edgedistill.models.language.config import Count

Index = Annotated[int, Field(ge=0)]


class SliceConfig(BaseModel):
    """What is kept of the teacher; what is left out is kept whole."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: Annotated[tuple[Index, ...], Field(min_length=1)] | None = None
    """The teacher's layers, counted from 0, in the student's order."""
    hidden_size: Count | None = None
    num_heads: Count | None = None
    """Query heads, each as wide as the teacher's."""
    num_kv_heads: Count | None = None
    """Groups of query heads that share keys and values."""
    intermediate_size: Count | None = None
    """Units of each feed-forward."""


class Shape(Protocol):
    """A Llama's numbers by the names that its config.json gives them."""

    num_hidden_layers: Any
    hidden_size: Any
    num_attention_heads: Any
    num_key_value_heads: Any
    intermediate_size: Any


def kept_shape(known: Shape, config: SliceConfig) -> tuple[tuple[int, ...], dict[str, int]]:
    """Layers and widths of the student, checked against the teacher's.

    Raises:
        ModelError: the teacher has no such layer or is not so wide, or heads do not divide into
            groups.
    """
    layers = config.layers or tuple(range(known.num_hidden_layers))
    if max(layers) >= known.num_hidden_layers:
        raise ModelError(f"the teacher has {known.num_hidden_layers} layers, not {config.layers}")
    groups = known.num_key_value_heads or known.num_attention_heads
    asked = {
        "hidden_size": (config.hidden_size, known.hidden_size),
        "num_attention_heads": (config.num_heads, known.num_attention_heads),
        "num_key_value_heads": (config.num_kv_heads, groups),
        "intermediate_size": (config.intermediate_size, known.intermediate_size),
    }
    for name, (wanted, there) in asked.items():
        if wanted is not None and wanted > there:
            raise ModelError(f"the teacher's {name} is {there}, {wanted} cannot be cut out of it")
    shape = {name: wanted or there for name, (wanted, there) in asked.items()}
    heads, kept_groups = shape["num_attention_heads"], shape["num_key_value_heads"]
    a_group = known.num_attention_heads // groups
    if heads % kept_groups or heads // kept_groups > a_group:
        raise ModelError(
            f"{heads} heads cannot be cut out in {kept_groups} groups: the teacher has {groups} "
            f"groups of {a_group}",
            fix=f"a multiple of num_kv_heads, up to {kept_groups * a_group}",
        )
    if shape["hidden_size"] % heads:
        raise ModelError(
            f"a hidden size of {shape['hidden_size']} does not divide by {heads} heads",
            fix="a hidden size that is a multiple of num_heads",
        )
    return layers, shape
