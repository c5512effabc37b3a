"""Where no candidate meets what is required: what binds, and what is within reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedistill.core.requirements import BundleRequirements

if TYPE_CHECKING:
    from edgedistill.pipeline.search import Tried


@dataclass(frozen=True)
class _Axis:
    """A requirement that candidates are chosen by. `cost`: what is small; `told`: in words."""

    name: str
    limit: float
    cost: Callable[[Tried[Any]], float]
    told: Callable[[float], str]

    def holds(self, tried: Tried[Any]) -> bool:
        return self.cost(tried) <= self.limit


def told_reach(tried: Sequence[Tried[Any]], required: BundleRequirements) -> tuple[str, ...]:
    """A sentence for each requirement that alone is missed by some candidate, with the nearest; of
    all requirements, where every candidate misses two. Empty where one candidate meets all.

    Decided on validation, with the bound of retention that the test will probably confirm.
    """
    axes, made = _axes(required), [t for t in tried if t.artefact]
    if not made or any(all(axis.holds(t) for axis in axes) for t in made):
        return ()
    lines = []
    for axis in axes:
        nearly = [t for t in made if all(a.holds(t) for a in axes if a is not axis)]
        if nearly:
            lines.append(f"{axis.name} binds: {_nearest(axis, nearly)}, of what meets the rest")
    if lines:
        return tuple(lines)
    missed = [axis for axis in axes if not all(axis.holds(t) for t in made)]
    return tuple(
        f"{axis.name}: {_nearest(axis, made)}, of all candidates; each misses another requirement, "
        "too"
        for axis in missed
    )


def _nearest(axis: _Axis, tried: Sequence[Tried[Any]]) -> str:
    best = min(tried, key=axis.cost)
    reached, asked = axis.told(axis.cost(best)), axis.told(axis.limit)
    return f"{reached} is within reach ({best.candidate.name}), {asked} asked for"


def _axes(required: BundleRequirements) -> list[_Axis]:
    def chosen(t: Tried[Any]) -> Any:
        assert t.artefact is not None
        return t.artefact.chosen

    axes = [
        (
            "retention (lower bound)", -required.retention if required.retention else None,
            lambda t: -t.retention_low, lambda cost: f"{-cost:.2%}",
        ),
        (
            "size", required.size_mb,
            lambda t: chosen(t).size_bytes / 1e6, lambda mb: f"{mb:.2f} MB",
        ),
        (
            "latency", required.latency_p95_ms,
            lambda t: chosen(t).p95_ms, lambda ms: f"p95 {ms:.2f} ms",
        ),
        (
            "memory", required.memory_mb,
            lambda t: (chosen(t).peak_memory_bytes or 0) / 1e6, lambda mb: f"{mb:.0f} MB resident",
        ),
    ]  # fmt: skip
    return [_Axis(name, limit, cost, told) for name, limit, cost, told in axes if limit is not None]
