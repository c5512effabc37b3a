"""A budget: which combinations keep it, in order, and which come nearest where none does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from edgedistill.sizing.cache import PRECISIONS
from edgedistill.sizing.combination import Combination, System
from edgedistill.sizing.network import Network
from edgedistill.sizing.schemes import Scheme

#: Network of the same architecture with fewer blocks.
Shortened = Callable[[int], Network]


@dataclass(frozen=True)
class Budget:
    """Most bytes of all files and most bytes in memory; None: no such limit."""

    disk_bytes: int | None
    memory_bytes: int | None

    def keeps(self, combination: Combination) -> bool:
        """Whether the combination is within both."""
        return self.fits_disk(combination) and (
            self.memory_bytes is None or combination.memory.peak_bytes <= self.memory_bytes
        )

    def fits_disk(self, combination: Combination) -> bool:
        """Whether its files are within the first."""
        return self.disk_bytes is None or combination.disk_bytes <= self.disk_bytes


@dataclass(frozen=True)
class Choices:
    """What may be chosen: each scheme once, each precision of the cache from fine to coarse."""

    schemes: Sequence[Scheme]
    precisions: Sequence[str]
    context: int


def feasible(system: System, choices: Choices, budget: Budget) -> list[Combination]:
    """For each scheme its finest cache that keeps the budget, the most bits a weight first.

    A config tells nothing of quality: the order is that of what is left of the numbers.
    """
    found = []
    for scheme in choices.schemes:
        kept = (
            combination
            for precision in choices.precisions
            if budget.keeps(combination := system.combination(scheme, precision, choices.context))
        )
        if (first := next(kept, None)) is not None:
            found.append(first)
    return sorted(found, key=lambda each: (-each.bits_per_weight, each.disk_bytes, each.scheme))


def smallest(system: System, choices: Choices, *, most: int) -> list[Combination]:
    """The combinations of the least bytes on disk, whatever the budget."""
    coarsest = choices.precisions[-1]
    all_of_them = [
        system.combination(scheme, coarsest, choices.context) for scheme in choices.schemes
    ]
    return sorted(all_of_them, key=lambda each: (each.disk_bytes, each.scheme))[:most]


def with_fewer_tokens(
    system: System, choices: Choices, budget: Budget, *, most: int
) -> list[Combination]:
    """Feasible with a shorter context and the coarsest cache, the longest context first."""
    found = []
    for scheme in choices.schemes:
        low, high = 0, choices.context
        while low < high:
            middle = (low + high + 1) // 2
            fits = budget.keeps(system.combination(scheme, choices.precisions[-1], middle))
            low, high = (middle, high) if fits else (low, middle - 1)
        if low:
            found.append(system.combination(scheme, choices.precisions[-1], low))
    found.sort(key=lambda each: (-each.context, -each.bits_per_weight, each.scheme))
    return found[:most]


def with_fewer_blocks(
    system: System, choices: Choices, budget: Budget, shortened: Shortened, *, most: int
) -> list[Combination]:
    """Feasible with fewer blocks of the same width, the most blocks first.

    Of a scheme only the most blocks that fit. What is cut out is lost: such a network has to be
    trained again.
    """
    networks = _Networks(shortened)
    found = [
        combination
        for scheme in choices.schemes
        if (combination := _most_blocks(system, scheme, choices, budget, networks)) is not None
    ]
    found.sort(key=lambda each: (-each.num_blocks, -each.bits_per_weight, each.scheme))
    return found[:most]


class _Networks(dict[int, Network]):
    """Shortened networks, each built once."""

    def __init__(self, build: Shortened) -> None:
        super().__init__()
        self._build = build

    def __missing__(self, num_blocks: int) -> Network:
        self[num_blocks] = self._build(num_blocks)
        return self[num_blocks]


def _most_blocks(
    system: System, scheme: Scheme, choices: Choices, budget: Budget, networks: _Networks
) -> Combination | None:
    """The most blocks, fewer than all, that keep the budget; None: not even one does.

    Bytes grow by a block at a time: begin where a straight line says, then step."""
    whole, least = system.network.num_blocks, 1

    def tried(num_blocks: int) -> Combination | None:
        cut = replace(system, network=networks[num_blocks], _sized={})
        return next(_within(cut, scheme, choices, budget), None)

    if whole == 1 or (best := tried(least)) is None:
        return None
    at = min(whole - 1, max(least, _guess(system, scheme, best, choices, budget)))
    if (found := tried(at)) is None:
        while at > least + 1 and found is None:
            at -= 1
            found = tried(at)
        return found or best
    while at < whole - 1 and (more := tried(at + 1)) is not None:
        at, found = at + 1, more
    return found


def _guess(
    system: System, scheme: Scheme, one: Combination, choices: Choices, budget: Budget
) -> int:
    """How many blocks fit if bytes grow evenly from one block to all."""
    full = system.combination(scheme, choices.precisions[-1], choices.context)
    steps = system.network.num_blocks - 1
    guesses = []
    for limit, small, large in (
        (budget.disk_bytes, one.disk_bytes, full.disk_bytes),
        (budget.memory_bytes, one.memory.peak_bytes, full.memory.peak_bytes),
    ):
        if limit is not None and large > small:
            guesses.append(1 + (limit - small) * steps // (large - small))
    return min(guesses, default=1)


def _within(
    system: System, scheme: Scheme, choices: Choices, budget: Budget
) -> Iterator[Combination]:
    for precision in choices.precisions:
        combination = system.combination(scheme, precision, choices.context)
        if budget.keeps(combination):
            yield combination


def precisions_for(network: Network, chosen: str | None) -> Sequence[str]:
    """The cache's precisions to choose from: the one asked for, or all, from fine to coarse."""
    if chosen is not None:
        return (chosen,)
    return PRECISIONS[1:] if network.is_causal else PRECISIONS[1:2]
