"""Sequences of passes on a network that a search may try, and what is foreseen of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

Passes = tuple[Mapping[str, Any], ...]

#: Stands before every sequence: it costs no answer where the texts are the task's.
FIRST: Mapping[str, Any] = {"name": "prune_vocabulary"}
_SHARES: Mapping[str, tuple[float, ...]] = {
    "drop_layers": (1 / 3, 1 / 2, 2 / 3),
    "prune_heads": (1 / 4, 1 / 2),
    "prune_neurons": (1 / 4, 1 / 2, 3 / 4),
}
_RANKS = (1 / 2, 1 / 3)
_WORDS = {
    "drop_layers": "layers", "prune_heads": "heads", "prune_neurons": "neurons",
    "factorise_embeddings": "table",
}  # fmt: skip
#: Sequences that a search trains shortly, the recipes among them.
MOST_TRIALS = 12
#: What a forecast of bytes may be off by, as a share.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Effect:
    """What one pass does to the network before any training. `divergence`: nats that its answers
    to the validation texts are from the teacher's, above those without the pass; `time`: p50 of
    its file in full precision over that without it."""

    divergence: float
    time: float


@dataclass(frozen=True)
class Foreseen:
    """A sequence, what its parts do taken together, and bytes of model and tokenizer at INT8."""

    passes: Passes
    divergence: float
    time: float
    size_bytes: int


def single_passes(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each pass at each strength, for a model with this config.json; strengths that remove as many
    layers or heads as another stand once."""
    counts = {
        "drop_layers": int(config["num_hidden_layers"]),
        "prune_heads": int(config["num_attention_heads"]),
    }
    found = []
    for name, shares in _SHARES.items():
        removed = set[int]()
        for share in shares:
            num = round(share * counts[name]) if name in counts else math.ceil(share * 100)
            if num == 0 or num in removed or num == counts.get(name):
                continue
            removed.add(num)
            found.append({"name": name, "share": round(share, 2)})
    return [*found, *({"name": "factorise_embeddings", "rank": round(r, 2)} for r in _RANKS)]


def sequences(single: Sequence[Mapping[str, Any]]) -> list[Passes]:
    """Every combination of the single passes, of each kind at most one, in the order in which they
    make sense; the vocabulary first."""
    kinds = [[each for each in single if each["name"] == name] for name in _WORDS]
    return [
        (FIRST, *(each for each in chosen if each is not None))
        for chosen in product(*([None, *kind] for kind in kinds))
        if any(each is not None for each in chosen)
    ]


def name_of(passes: Passes) -> str:
    """For stages and people: what is removed, in percent."""
    return "-".join(
        f"{_WORDS[each['name']]}-{100 * each.get('share', 1 - each.get('rank', 0)):.0f}"
        for each in passes if each["name"] in _WORDS
    )  # fmt: skip


def foresee(passes: Passes, effects: Mapping[str, Effect], size_bytes: int) -> Foreseen:
    """What a sequence is expected to come to: divergences add up, times multiply.

    Args:
        effects: of single passes, by `name_of`.
    """
    parts = [effects[name_of((each,))] for each in passes if each["name"] in _WORDS]
    return Foreseen(
        passes,
        sum(max(0.0, part.divergence) for part in parts),
        math.prod(part.time for part in parts),
        size_bytes,
    )


def proposals(options: Sequence[Foreseen], most: int, size_mb: float | None) -> list[Foreseen]:
    """At most `most` of the options, the smallest first: of those that may fit into `size_mb`, such
    as no other is foreseen to beat in divergence, time and bytes, spread evenly over the bytes."""
    limit = math.inf if size_mb is None else (1 + TOLERANCE) * size_mb * 1e6
    fitting = [option for option in options if option.size_bytes <= limit]
    front = [a for a in fitting if not any(_beats(b, a) for b in fitting)]
    front.sort(key=lambda option: (option.size_bytes, option.divergence))
    if len(front) <= most:
        return front
    places = [round(i * (len(front) - 1) / max(1, most - 1)) for i in range(most)]
    return [front[place] for place in dict.fromkeys(places)]


def widest_first(options: Sequence[Foreseen]) -> list[Foreseen]:
    """The same in an order of which any beginning lies spread over all: the last, the first, then
    always the one farthest from those before. Where time ends early, both ends have been tried."""
    left, taken = list(range(len(options))), list[int]()
    while left:
        place = max(left, key=lambda i: (min((abs(i - t) for t in taken), default=i), i))
        left.remove(place)
        taken.append(place)
    return [options[place] for place in taken]


def _beats(a: Foreseen, b: Foreseen) -> bool:
    pairs = [(a.divergence, b.divergence), (a.time, b.time), (a.size_bytes, b.size_bytes)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)
