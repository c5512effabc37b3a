"""Passes over an exported file, by name: which there are, and in what order they can stand.

What a pass does stands beside its arithmetic in `compress`; here is what a task file may say of it,
so that a wrong name or order is refused before anything is loaded.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, Field

FilePass: TypeAlias = Literal[
    "float16_tables", "int8_tables", "int4_tables",
    "dynamic_int8", "static_int8", "static_int8_entropy", "static_int8_percentile",
    "group_int8", "group_int4", "awq_int4", "gptq_int4", "mixed_int4_int8",
    "weight_int8", "float16_weights", "bfloat16_weights", "sparse_half", "sparse_two_of_four",
    "palette_16", "palette_256",
]  # fmt: skip

Name = TypeVar("Name", bound=str)

#: What a pass takes of a file; what it took, no later one finds.
_TABLES, _PRODUCTS, _OTHERS = "tables", "matrix products", "other matrices"
_ALL = frozenset({_TABLES, _PRODUCTS, _OTHERS})
_WIDENED = frozenset({_PRODUCTS, _OTHERS})
#: Of the passes that take more or other things than products.
_TAKES = {
    "float16_tables": frozenset({_TABLES}),
    "int8_tables": frozenset({_TABLES}),
    "int4_tables": frozenset({_TABLES}),
    "weight_int8": _WIDENED,
    "float16_weights": _WIDENED,
    "bfloat16_weights": _WIDENED,
    "sparse_half": _WIDENED,
    "sparse_two_of_four": _WIDENED,
    "palette_16": _ALL,
    "palette_256": _ALL,
}


def in_possible_order(passes: tuple[Name, ...]) -> tuple[Name, ...]:
    """The passes, if none can find nothing after those in front of it.

    Raises:
        ValueError: which one cannot, and after which.
    """
    left, took = _ALL, dict[str, str]()
    for name in passes:
        takes = _takes(name)
        if not takes & left:
            before = took[min(takes)]
            if before == name:
                raise ValueError(f"{name} stands twice: the second time it would find nothing")
            raise ValueError(f"{name} would find nothing after {before}: put one of them alone")
        took |= dict.fromkeys(takes & left, name)
        left -= takes
    return passes


def takes_first(name: str, passes: tuple[str, ...]) -> bool:
    """Whether a pass stands in the sequence, and those in front of it leave all it takes."""
    if name not in passes:
        return False
    before = passes[: passes.index(name)]
    return not any(_takes(name) & _takes(other) for other in before)


def _takes(name: str) -> frozenset[str]:
    return _TAKES.get(name, frozenset({_PRODUCTS}))


#: A sequence, in an order in which each pass may find something to do.
FilePasses: TypeAlias = Annotated[
    tuple[FilePass, ...], Field(min_length=1), AfterValidator(in_possible_order)
]
