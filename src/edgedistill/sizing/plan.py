"""`plan`: from a config.json and what one wants to build, all sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from edgedistill.core.errors import SpecError
from edgedistill.sizing.architectures.catalogue import network_of
from edgedistill.sizing.budget import (
    Budget,
    Choices,
    feasible,
    precisions_for,
    smallest,
    with_fewer_blocks,
    with_fewer_tokens,
)
from edgedistill.sizing.cache import PRECISIONS, cache_bytes
from edgedistill.sizing.combination import Combination, System
from edgedistill.sizing.config_file import ModelConfig, read_config
from edgedistill.sizing.network import Network
from edgedistill.sizing.parts import Adapters, Part, adapters, router
from edgedistill.sizing.schemes import ONNX_NOTES, Scheme, Sized, scheme, schemes_for

#: Scheme of a checkpoint as it is published, by the type of its numbers.
PUBLISHED = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
DEFAULT_CONTEXT = 4096
_MOST_NEAREST = 5
_ONNX_CACHE = "f32"
_STEPS = (512, 2048, 8192, 32_768, 131_072)


@dataclass(frozen=True)
class Wishes:
    """What is asked of a plan; None: left to the plan."""

    scheme: str | None = None
    context: int | None = None
    precision: str | None = None
    max_mb: float | None = None
    max_memory_mb: float | None = None
    draft: str | None = None
    draft_scheme: str | None = None
    adapters: Adapters | None = None
    router: tuple[int, ...] = ()
    other_mb: float = 0.0


@dataclass(frozen=True)
class Nearest:
    """Where a budget cannot be kept: `required_bits` a weight of the model would have to do (None
    where all else alone is over the budget), and what comes nearest."""

    required_bits: float | None
    smallest: list[Combination]
    fewer_tokens: list[Combination]
    fewer_blocks: list[Combination]


@dataclass(frozen=True)
class Plan:
    """Sizes of one model and of the system around it."""

    source: str
    network: Network
    notes: list[str]
    sizes: list[tuple[Scheme, Sized]]
    cache: list[tuple[int, dict[str, int]]]
    """(context, bytes by precision); empty for an encoder."""
    chosen: Combination
    """As asked; under a budget the first feasible one, or the smallest where none is."""
    chosen_size: Sized
    budget: Budget | None
    feasible: list[Combination]
    nearest: Nearest | None
    """Only where a budget cannot be kept."""


def make_plan(source: str, wishes: Wishes) -> Plan:
    """Work out all sizes.

    Args:
        source: a config.json, a folder with one, or the name of a known model.

    Raises:
        SpecError: a wish that makes no sense.
        ModelError: a config that cannot be used.
    """
    config = read_config(source)
    network = network_of(config)
    budget = _budget(wishes)
    context = _context(network, wishes)
    system = System(network, *_draft(wishes), _others(network, wishes, _tokenizer(config)))
    published = scheme(PUBLISHED.get(network.stored_as, "fp32"))
    asked = scheme(wishes.scheme) if wishes.scheme else None
    possible = [each for each in schemes_for(network) if system.refusal(each) is None]
    if asked is not None and (why := system.refusal(asked)) is not None:
        raise SpecError(f"{asked.name} {why}", where="--scheme",
                        fix=f"one of: {', '.join(each.name for each in possible)}")  # fmt: skip
    if wishes.precision is not None and not network.is_causal:
        raise SpecError("an encoder keeps no keys and values", where="--kv", fix="leave it out")
    precisions = precisions_for(network, wishes.precision)
    chosen_scheme = asked or published
    chosen = system.combination(chosen_scheme, precisions[0], context)
    kept: list[Combination] = []
    nearest = None
    if budget is not None:
        choices = Choices([asked] if asked else possible, precisions, context)
        kept = feasible(system, choices, budget)
        if kept:
            chosen = kept[0]
        else:
            nearest = _nearest(system, choices, budget, config)
            chosen = nearest.smallest[0]
        chosen_scheme = scheme(chosen.scheme)
    listed = schemes_for(network)
    if asked is not None and asked.name not in [each.name for each in listed]:
        listed = [asked, *listed]
    return Plan(
        source=source,
        network=network,
        notes=list(_notes(config, network, system, chosen)),
        sizes=[(each, system.sized(network, each, "model")) for each in listed],
        cache=_cache(network, context),
        chosen=chosen,
        chosen_size=system.sized(network, chosen_scheme, "model"),
        budget=budget,
        feasible=kept,
        nearest=nearest,
    )


def _budget(wishes: Wishes) -> Budget | None:
    limits = []
    for option, value in (("--max-mb", wishes.max_mb), ("--max-memory-mb", wishes.max_memory_mb)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise SpecError(f"a budget of {value:g} MB", where=option, fix="more than 0")
        limits.append(None if value is None else int(value * 1e6))
    return Budget(*limits) if any(limit is not None for limit in limits) else None


def _context(network: Network, wishes: Wishes) -> int:
    if wishes.context is None:
        return min(DEFAULT_CONTEXT, network.max_positions)
    if wishes.context < 1:
        raise SpecError(f"a context of {wishes.context}", where="--context", fix="1 or more")
    return wishes.context


def _draft(wishes: Wishes) -> tuple[Network | None, Scheme | None]:
    if wishes.draft is None:
        if wishes.draft_scheme is not None:
            raise SpecError("no draft to store", where="--draft-scheme", fix="name it: --draft")
        return None, None
    network = network_of(read_config(wishes.draft))
    if not network.is_causal:
        raise SpecError("an encoder proposes no tokens", where="--draft", fix="a decoder")
    chosen = scheme(wishes.draft_scheme) if wishes.draft_scheme else None
    if chosen is not None and (why := chosen.refuses(network)) is not None:
        names = ", ".join(each.name for each in schemes_for(network))
        raise SpecError(f"{chosen.name} {why}", where="--draft-scheme", fix=f"one of: {names}")
    return network, chosen


def _others(network: Network, wishes: Wishes, tokenizer: Path | None) -> tuple[Part, ...]:
    found = []
    if tokenizer is not None:
        found.append(Part("tokenizer", tokenizer.name, 0, tokenizer.stat().st_size))
    if wishes.adapters is not None:
        found.append(adapters(network, wishes.adapters))
    if wishes.router:
        found.append(router(wishes.router))
    if not (math.isfinite(wishes.other_mb) and wishes.other_mb >= 0):
        raise SpecError(f"{wishes.other_mb:g} MB", where="--other-mb", fix="0 or more")
    if wishes.other_mb:
        found.append(Part("other", "as stated", 0, int(wishes.other_mb * 1e6)))
    return tuple(found)


def _nearest(system: System, choices: Choices, budget: Budget, config: ModelConfig) -> Nearest:
    least = smallest(system, choices, most=_MOST_NEAREST)
    beside = least[0].disk_bytes - least[0].parts[0].size_bytes
    limits = [budget.disk_bytes]
    if budget.memory_bytes is not None:
        # In memory weights stand beside the cache and what is computed.
        at_peak = least[0].memory
        limits.append(budget.memory_bytes - at_peak.cache_bytes - at_peak.working_bytes)
    left = min(limit for limit in limits if limit is not None) - beside
    bits = 8 * left / system.network.num_parameters if left > 0 else None
    fewer_tokens = []
    if budget.memory_bytes is not None:
        fewer_tokens = with_fewer_tokens(system, choices, budget, most=_MOST_NEAREST)
    return Nearest(
        required_bits=bits,
        smallest=least,
        fewer_tokens=fewer_tokens,
        fewer_blocks=with_fewer_blocks(
            system, choices, budget, lambda blocks: network_of(_shortened(config, blocks)),
            most=_MOST_NEAREST,
        ),
    )  # fmt: skip


def _shortened(config: ModelConfig, num_blocks: int) -> ModelConfig:
    """The config with its first blocks alone."""
    values = dict(config.values)
    for key in ("num_hidden_layers", "n_layer", "n_layers"):
        if values.get(key) is not None:
            values[key] = num_blocks
    if isinstance(values.get("layer_types"), list):
        values["layer_types"] = values["layer_types"][:num_blocks]
    return replace(config, values=values)


def _cache(network: Network, context: int) -> list[tuple[int, dict[str, int]]]:
    if not network.is_causal:
        return []
    longest = max(network.max_positions, context)
    steps = sorted({*(step for step in _STEPS if step < longest), context, longest})
    return [
        (step, {name: cache_bytes(network, step, name) for name in PRECISIONS}) for step in steps
    ]


def _notes(
    config: ModelConfig, network: Network, system: System, chosen: Combination
) -> Iterable[str]:
    if isinstance(quantised := config.values.get("quantization_config"), dict):
        method, bits = quantised.get("quant_method", "?"), quantised.get("bits", "?")
        yield (
            f"the config is of a checkpoint that is quantised already ({method}, {bits} bits): "
            "sizes here are of its network at full count, not of that file"
        )
    if network.stored_as not in PUBLISHED:
        yield f"numbers of type {network.stored_as!r} are counted as fp32 where no scheme is named"
    if chosen.context > network.max_positions:
        yield f"the model was made for {network.max_positions:,} tokens, not for {chosen.context:,}"
    if chosen.scheme in ONNX_NOTES and chosen.precision != _ONNX_CACHE:
        yield (
            f"ONNX files keep keys and values in {_ONNX_CACHE}: --kv {_ONNX_CACHE} counts them so"
        )
    if any(layer.window is not None for layer in network.cache):
        yield "some layers keep a window of tokens alone; a runtime that keeps all needs more"
    draft = system.draft
    if draft is not None and draft.widths.vocabulary != network.widths.vocabulary:
        yield (
            f"the draft has {draft.widths.vocabulary:,} tokens and the model "
            f"{network.widths.vocabulary:,}: one's tokens are not the other's, so plain "
            "speculative decoding cannot use it"
        )
    if _tokenizer(config) is None:
        yield "not counted: the tokenizer, which a config does not tell"


def _tokenizer(config: ModelConfig) -> Path | None:
    """The tokenizer beside the config."""
    beside = Path(config.where).parent / "tokenizer.json"
    return beside if Path(config.where).is_file() and beside.is_file() else None
