"""Sequences that a search proposes, on hand-made figures."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.core.compression import RECIPES, CompressSpec, refuse_senseless
from edgedistill.pipeline.pass_options import (
    FIRST,
    Effect,
    Foreseen,
    foresee,
    name_of,
    proposals,
    sequences,
    single_passes,
    widest_first,
)

MINILM = {"num_hidden_layers": 6, "num_attention_heads": 12}


def test_strengths_that_remove_the_same_stand_once() -> None:
    def shares(**changes: int) -> list[float]:
        return [p["share"] for p in single_passes(MINILM | changes) if p["name"] == "drop_layers"]

    assert shares() == [0.33, 0.5, 0.67]
    # Of two layers one may go, of one none.
    assert shares(num_hidden_layers=2) == [0.33]
    assert shares(num_hidden_layers=1) == []
    heads = [p["share"] for p in single_passes(MINILM | {"num_attention_heads": 1})
             if p["name"] == "prune_heads"]  # fmt: skip
    assert heads == []


def test_every_sequence_is_one_that_a_task_file_may_name() -> None:
    found = sequences(single_passes(MINILM))
    # Three strengths of layers, two of heads, three of neurons, two of the table, or none of each.
    assert len(found) == 4 * 3 * 4 * 3 - 1
    names = [name_of(passes) for passes in found]
    assert len(set(names)) == len(names)
    for passes in found:
        spec = CompressSpec(passes=[dict(each) for each in passes])
        refuse_senseless(spec.names, "passes")
        assert passes[0] == FIRST


def test_a_recipe_that_is_a_plain_combination_is_among_them() -> None:
    assert RECIPES["fast"] in [tuple(map(dict, p)) for p in sequences(single_passes(MINILM))]


def test_divergences_add_up_and_times_multiply() -> None:
    layers, table = {"name": "drop_layers", "share": 0.5}, {"name": "factorise_embeddings",
                                                            "rank": 0.33}  # fmt: skip
    effects = {name_of((layers,)): Effect(2.0, 0.5), name_of((table,)): Effect(-0.1, 1.1)}
    both = foresee((FIRST, layers, table), effects, 1000)
    # What a pass seems to gain is noise: it makes up for nothing.
    assert both.divergence == 2.0
    assert math.isclose(both.time, 0.55)
    assert name_of(both.passes) == "layers-50-table-67"


def option(name: str, divergence: float, time: float, mb: float) -> Foreseen:
    return Foreseen(({"name": name},), divergence, time, int(mb * 1e6))


def names(found: list[Foreseen]) -> list[Any]:
    return [each.passes[0]["name"] for each in found]


def test_what_another_beats_or_does_not_fit_is_not_proposed() -> None:
    small, fast = option("small", 3.0, 0.5, 2), option("fast", 3.0, 0.4, 4)
    worse, big = option("worse", 3.1, 0.5, 2), option("big", 0.1, 0.9, 9)
    options = [big, worse, fast, small]
    assert names(proposals(options, 10, None)) == ["small", "fast", "big"]
    assert names(proposals(options, 10, 8.0)) == ["small", "fast"]
    # A forecast of 9 MB may turn out to be 8.2.
    assert names(proposals(options, 10, 8.2)) == ["small", "fast", "big"]
    assert proposals(options, 10, 1.0) == []
    assert proposals(options, 0, None) == []
    assert names(proposals([small, small], 10, None)) == ["small", "small"]


@given(
    st.lists(st.tuples(st.floats(0, 9), st.floats(0.1, 1), st.floats(0.1, 9)), max_size=30),
    st.integers(1, 12),
)
def test_proposals_spread_from_the_smallest_to_the_largest_of_the_front(
    figures: list[tuple[float, float, float]], most: int
) -> None:
    options = [option(str(i), *each) for i, each in enumerate(figures)]
    found, whole = proposals(options, most, None), proposals(options, len(options) + 1, None)
    assert len(found) == min(most, len(whole))
    sizes = [each.size_bytes for each in found]
    assert sizes == sorted(sizes)
    if len(found) > 1:
        assert (found[0], found[-1]) == (whole[0], whole[-1])


def test_the_ends_are_tried_before_what_lies_between() -> None:
    options = [option(str(i), 0.0, 1.0, i) for i in range(9)]
    assert names(widest_first(options)) == ["8", "0", "4", "6", "2", "7", "5", "3", "1"]
    assert widest_first([]) == []
    assert names(widest_first(options[:1])) == ["0"]


@given(st.integers(1, 40))
def test_any_beginning_lies_spread_over_all(num: int) -> None:
    options = [option(str(i), 0.0, 1.0, i) for i in range(num)]
    places = [int(name) for name in names(widest_first(options))]
    assert sorted(places) == list(range(num))
    for taken in range(2, num):
        marks = sorted(places[:taken])
        # No gap is more than twice the narrowest that halving it could have made.
        gaps = [b - a for a, b in pairwise(marks)]
        assert max(gaps) <= 2 * min(gaps) + 1


@pytest.mark.parametrize("num_heads", [2, 4, 12])
def test_heads_are_left(num_heads: int) -> None:
    for each in single_passes({"num_hidden_layers": 3, "num_attention_heads": num_heads}):
        if each["name"] == "prune_heads":
            assert 0 < round(each["share"] * num_heads) < num_heads
