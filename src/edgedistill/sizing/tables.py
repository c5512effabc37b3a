"""A plan as text for a terminal of 80 columns, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from edgedistill.sizing.cache import PRECISIONS
from edgedistill.sizing.combination import Combination
from edgedistill.sizing.plan import Plan
from edgedistill.sizing.schemes import Scheme, Sized, bytes_of

WIDTH = 80
_SHOWN = 8
_NAME = 37


def mb(size_bytes: float) -> str:
    """Bytes in 10^6, with as many places as matter."""
    value = size_bytes / 1e6
    if value >= 1e7:  # no column is wide enough
        return f"{value:.2e}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def lines(plan: Plan, *, tensors: bool = False) -> Iterator[str]:
    """The plan, line by line. `tensors`: every tensor of the model with its bytes."""
    network = plan.network
    yield f"{plan.source}: {network.architecture}, {network.model_class}"
    tied = ", the token table is the head too" if network.is_tied else ""
    yield from _wrapped(
        f"{network.num_parameters:,} parameters in {len(network.tensors):,} tensors, "
        f"{network.num_blocks} blocks{tied}"
    )
    yield ""
    yield from _sizes(plan.sizes, network.num_parameters)
    if plan.cache:
        yield ""
        yield from _cache(plan)
    yield ""
    yield from _system(plan)
    if plan.budget is not None:
        yield ""
        yield from _feasible(plan)
    if tensors:
        yield ""
        yield from _tensors(plan)
    yield ""
    for note in plan.notes:
        yield from _wrapped(f"note: {note}", "      ")


def _sizes(sizes: Sequence[tuple[Scheme, Sized]], num_parameters: int) -> Iterator[str]:
    yield f"{'scheme':<15}{'MB':>9}{'bits':>7}{'tables':>8}{'blocks':>9}  what it is"
    for scheme, sized in sizes:
        roles = sized.by_role()
        tables = roles["embedding"] + roles["position"] + roles["head"]
        rest = sized.size_bytes - tables
        yield (
            f"{_cut(scheme.name, 14):<15}{mb(sized.size_bytes):>9}"
            f"{8 * sized.size_bytes / num_parameters:>7.2f}{mb(tables):>8}{mb(rest):>9}  "
            f"{_cut(scheme.note, 30)}"
        )


def _cache(plan: Plan) -> Iterator[str]:
    yield "cache of keys and values, MB, by its precision"
    yield f"{'tokens':>14}" + "".join(f"{name:>9}" for name in PRECISIONS)
    for context, sizes in plan.cache:
        yield f"{context:>14,}" + "".join(f"{mb(sizes[name]):>9}" for name in PRECISIONS)


def _system(plan: Plan) -> Iterator[str]:
    chosen = plan.chosen
    cache = f", cache {chosen.precision}" if chosen.precision else ""
    yield f"the system: {chosen.context:,} tokens{cache}"
    for part in chosen.parts:
        yield f"  {part.name:<12}{mb(part.size_bytes):>10} MB  {_cut(part.note, 50)}"
    yield f"  {'on disk':<12}{mb(chosen.disk_bytes):>10} MB"
    memory = chosen.memory
    working = f"weights {mb(memory.weights_bytes)}, cache {mb(memory.cache_bytes)}, "
    working += f"work about {mb(memory.working_bytes)}"
    yield f"  {'in memory':<12}{mb(memory.peak_bytes):>10} MB  {_cut(working, 51)}"


def _feasible(plan: Plan) -> Iterator[str]:
    if plan.nearest is None:
        yield f"within the budget: {len(plan.feasible)}, the most bits a weight first"
        yield from _combinations(plan.feasible[:_SHOWN])
        if len(plan.feasible) > _SHOWN:
            yield f"  … and {len(plan.feasible) - _SHOWN} more (--json has all)"
        return
    nearest = plan.nearest
    yield "within the budget: nothing"
    if nearest.required_bits is None:
        yield from _wrapped("what comes beside the model's weights is over the budget by itself")
    else:
        yield from _wrapped(
            f"the model's weights would have to do with {nearest.required_bits:.3f} bits each"
        )
    for title, found in (
        ("smallest, whole", nearest.smallest),
        ("within it with fewer tokens", nearest.fewer_tokens),
        ("within it with fewer blocks (to be trained again)", nearest.fewer_blocks),
    ):
        if found:
            yield f"{title}:"
            yield from _combinations(found)


def _combinations(found: Sequence[Combination]) -> Iterator[str]:
    yield (
        f"  {'scheme':<18}{'bits':>6}{'blocks':>8}{'tokens':>11}{'cache':>7}"
        f"{'disk MB':>11}{'memory MB':>12}"
    )
    for each in found:
        yield (
            f"  {_cut(each.scheme, 17):<18}{each.bits_per_weight:>6.2f}{each.num_blocks:>8}"
            f"{each.context:>11,}{each.precision or '–':>7}{mb(each.disk_bytes):>11}"
            f"{mb(each.memory.peak_bytes):>12}"
        )


def _tensors(plan: Plan) -> Iterator[str]:
    yield f"tensors in {_cut(plan.chosen.scheme, 40)}, bytes"
    for tensor, stored in plan.chosen_size.by_tensor:
        kinds = "+".join(dict.fromkeys(each.kind for each in stored))
        shape = "×".join(map(str, tensor.shape))
        # Of a long name the end tells more.
        name = tensor.name if len(tensor.name) <= _NAME else f"…{tensor.name[1 - _NAME :]}"
        yield f"  {bytes_of(stored):>14,}  {shape:<14}{kinds:<11}{name}"
    yield f"  {plan.chosen_size.overhead_bytes:>14,}  the file's own entries"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def as_json(plan: Plan) -> dict[str, Any]:
    """The whole plan with every tensor of the chosen scheme, for machines."""
    network, nearest = plan.network, plan.nearest
    return {
        "source": plan.source,
        "architecture": network.architecture,
        "class": network.model_class,
        "num_parameters": network.num_parameters,
        "num_tensors": len(network.tensors),
        "num_blocks": network.num_blocks,
        "tied_embeddings": network.is_tied,
        "stored_as": network.stored_as,
        "notes": plan.notes,
        "schemes": {scheme.name: _size(sized, network.num_parameters)
                    for scheme, sized in plan.sizes},
        "cache_bytes": [{"context": context, **sizes} for context, sizes in plan.cache],
        "system": _combination(plan.chosen),
        "within_budget": [_combination(each) for each in plan.feasible]
        if plan.budget is not None else None,
        "nearest": None if nearest is None else {
            "required_bits_per_weight": nearest.required_bits,
            "smallest": [_combination(each) for each in nearest.smallest],
            "fewer_tokens": [_combination(each) for each in nearest.fewer_tokens],
            "fewer_blocks": [_combination(each) for each in nearest.fewer_blocks],
        },
        "tensors": [
            {
                "name": tensor.name, "shape": list(tensor.shape), "role": tensor.role,
                "size_bytes": bytes_of(stored),
                "stored": [{"name": each.name, "type": each.kind, "shape": list(each.shape)}
                           for each in stored],
            }
            for tensor, stored in plan.chosen_size.by_tensor
        ],
    }  # fmt: skip


def _size(sized: Sized, num_parameters: int) -> dict[str, Any]:
    return {
        "size_bytes": sized.size_bytes,
        "bits_per_weight": 8 * sized.size_bytes / num_parameters,
        "overhead_bytes": sized.overhead_bytes,
        "by_role": sized.by_role(),
    }


def _combination(found: Combination) -> dict[str, Any]:
    return {
        "scheme": found.scheme,
        "cache": found.precision,
        "context": found.context,
        "num_blocks": found.num_blocks,
        "bits_per_weight": found.bits_per_weight,
        "disk_bytes": found.disk_bytes,
        "memory_bytes": found.memory.peak_bytes,
        "memory": {
            "weights_bytes": found.memory.weights_bytes,
            "cache_bytes": found.memory.cache_bytes,
            "working_bytes": found.memory.working_bytes,
        },
        "parts": [
            {"name": part.name, "note": part.note, "num_parameters": part.num_parameters,
             "size_bytes": part.size_bytes}
            for part in found.parts
        ],
    }  # fmt: skip
