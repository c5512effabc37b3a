"""Feature, attention and relation losses against loops in numpy, float64; limits; gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from edgedistill.core.errors import SpecError
from edgedistill.core.protocols import Batch, ModelOutput, Signal
from edgedistill.core.strategies import AttentionSettings, FeatureSettings, RelationSettings
from edgedistill.models.internals import NetworkShape
from edgedistill.train.distill.attention import Attention
from edgedistill.train.distill.feature import Feature
from edgedistill.train.distill.layer_map import layer_pairs
from edgedistill.train.distill.relation import Relation
from edgedistill.train.distill.seen import Part, Seen

STUDENT, TEACHER = NetworkShape(2, 6, 2, 4), NetworkShape(4, 10, 4, 6)
TWIN = NetworkShape(2, 6, 2, 4)
VECTORS = (Signal.QUERIES, Signal.KEYS, Signal.VALUES)
Internals = Mapping[Signal, list[np.ndarray]]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return float((p * (np.log(p) - np.log(q))).sum())


def inside(rng: np.random.Generator, shape: NetworkShape, lengths: list[int]) -> Internals:
    """What a network of this shape could tell; where no token is there is noise."""
    batch, longest = len(lengths), max(lengths, default=0)
    maps = []
    for _ in range(shape.num_layers):
        each = np.zeros((batch, shape.num_heads, longest, longest))
        for text, num in enumerate(lengths):
            if num:
                scores = rng.normal(size=(shape.num_heads, longest, num)) * 2
                each[text, :, :, :num] = softmax(scores)
        maps.append(each)
    heads = (batch, shape.num_heads, longest, shape.head_size)
    return {
        Signal.STATES: [
            rng.normal(size=(batch, longest, shape.hidden_size)) for _ in range(shape.num_layers)
        ],
        Signal.ATTENTIONS: maps,
        **{s: [rng.normal(size=heads) for _ in range(shape.num_layers)] for s in VECTORS},
    }


def see(student: Any, teacher: Internals, lengths: list[int]) -> Seen:
    longest = max(lengths, default=0)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    nothing = torch.zeros(len(lengths), 2, dtype=torch.float64)
    batch = Batch(torch.ones_like(mask), mask, torch.full((len(lengths),), -1))
    return Seen(
        torch.nn.Identity(), batch, torch.Generator(), ModelOutput(nothing, nothing),
        {s: [torch.as_tensor(x) for x in layers] for s, layers in student.items()},
        {s: dict(enumerate(map(torch.as_tensor, layers))) for s, layers in teacher.items()},
    )  # fmt: skip


def cost(part: Part, student: Internals, teacher: Internals, lengths: list[int]) -> float:
    terms = part.terms(see(student, teacher, lengths))
    return float(torch.stack(list(terms.values())).sum().detach())


LENGTHS = st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(lambda ns: max(ns) > 0)
SEEDS = st.integers(0, 10_000)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, loss=st.sampled_from(["mse", "cosine"]))
def test_feature_by_hand(seed: int, lengths: list[int], loss: Any) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = inside(rng, STUDENT, lengths), inside(rng, TEACHER, lengths)
    part = Feature(FeatureSettings(loss=loss), STUDENT, TEACHER)
    assert part.learned is not None
    part.learned.double()
    total = 0.0
    for place, (s, t) in enumerate([(0, 1), (1, 3)]):
        maps: Any = part.learned[place]
        weight, bias = maps.weight.detach().numpy(), maps.bias.detach().numpy()
        for text, num in enumerate(lengths):
            for token in range(num):
                a = weight @ ours[Signal.STATES][s][text, token] + bias
                b = theirs[Signal.STATES][t][text, token]
                if loss == "mse":
                    total += ((a - b) ** 2).mean()
                else:
                    total += 1 - a @ b / np.sqrt((a @ a) * (b @ b))
    expected = total / sum(lengths) / 2
    assert cost(part, ours, theirs, lengths) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=SEEDS, lengths=LENGTHS, loss=st.sampled_from(["kl", "mse"]),
    heads=st.sampled_from(["pairs", "mean", "nearest"]),
)  # fmt: skip
def test_attention_by_hand(seed: int, lengths: list[int], loss: Any, heads: Any) -> None:
    rng = np.random.default_rng(seed)
    teacher = TEACHER if heads != "pairs" else NetworkShape(4, 10, 2, 6)
    ours, theirs = inside(rng, STUDENT, lengths), inside(rng, teacher, lengths)
    part = Attention(AttentionSettings(loss=loss, heads=heads), STUDENT, teacher)

    def between(a: np.ndarray, b: np.ndarray) -> float:
        """The mean over real tokens of one map [b, s, s] of each."""
        total = 0.0
        for text, num in enumerate(lengths):
            for token in range(num):
                q, p = a[text, token, :num], b[text, token, :num]
                total += kl(p, q) if loss == "kl" else ((p - q) ** 2).sum()
        return total / sum(lengths)

    costs = []
    for s, t in [(0, 1), (1, 3)]:
        a, b = ours[Signal.ATTENTIONS][s], theirs[Signal.ATTENTIONS][t]
        if heads == "mean":
            costs.append(between(a.mean(1), b.mean(1)))
        elif heads == "pairs":
            costs.append(np.mean([between(a[:, h], b[:, h]) for h in range(2)]))
        else:
            costs.append(
                np.mean([min(between(a[:, h], b[:, g]) for g in range(4)) for h in range(2)])
            )
    assert cost(part, ours, theirs, lengths) == pytest.approx(np.mean(costs), rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, lengths=LENGTHS, num_heads=st.sampled_from([None, 1, 4]))
def test_relation_by_hand(seed: int, lengths: list[int], num_heads: int | None) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = inside(rng, STUDENT, lengths), inside(rng, TEACHER, lengths)
    kinds = ("attention", "query", "key", "value")
    part = Relation(RelationSettings(of=kinds, num_heads=num_heads), STUDENT, TEACHER)
    groups = num_heads or 2

    def relation(side: Internals, layer: int, pair: Any, text: int, num: int) -> np.ndarray:
        """[groups, num, num]: what each real token's dot products say, normalised."""
        both = []
        for signal in pair:
            heads = side[signal][layer][text, :, :num]
            joined = np.concatenate(list(heads), axis=-1)
            both.append(np.split(joined, groups, axis=-1))
        size = both[0][0].shape[-1]
        return np.stack([softmax(a @ b.T / math.sqrt(size)) for a, b in zip(*both, strict=True)])

    pairs = {
        "attention": (Signal.QUERIES, Signal.KEYS),
        "query": (Signal.QUERIES, Signal.QUERIES),
        "key": (Signal.KEYS, Signal.KEYS),
        "value": (Signal.VALUES, Signal.VALUES),
    }
    terms = part.terms(see(ours, theirs, lengths))
    for kind in kinds:
        total = sum(
            kl(relation(theirs, 3, pairs[kind], text, num),
               relation(ours, 1, pairs[kind], text, num))
            for text, num in enumerate(lengths) if num
        )  # fmt: skip
        expected = total / groups / sum(lengths)
        assert float(terms[kind]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def parts_of(student: NetworkShape, teacher: NetworkShape) -> dict[str, Part]:
    return {
        "feature mse": Feature(FeatureSettings(), student, teacher),
        "feature cosine": Feature(FeatureSettings(loss="cosine"), student, teacher),
        "attention kl": Attention(AttentionSettings(), student, teacher),
        "attention mse": Attention(AttentionSettings(loss="mse"), student, teacher),
        "attention nearest": Attention(AttentionSettings(heads="nearest"), student, teacher),
        "relation": Relation(RelationSettings(layers="uniform"), student, teacher),
    }


@pytest.mark.parametrize("name", parts_of(TWIN, TWIN))
def test_identical_networks_cost_nothing(name: str) -> None:
    told = inside(np.random.default_rng(0), TWIN, [4, 1, 0])
    part = parts_of(TWIN, TWIN)[name]
    assert cost(part, told, told, [4, 1, 0]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", parts_of(TWIN, TWIN))
def test_where_nothing_is_real_nothing_is_to_be_paid(name: str) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = inside(rng, TWIN, [3, 3]), inside(rng, TWIN, [3, 3])
    seen = see(ours, theirs, [3, 3])
    none = Batch(seen.batch.input_ids, torch.zeros(2, 3, dtype=torch.int64), seen.batch.labels)
    hidden = Seen(seen.model, none, seen.rng, seen.output, seen.student, seen.teacher)
    terms = parts_of(TWIN, TWIN)[name].terms(hidden)
    assert all(float(value) == 0.0 for value in terms.values())


@pytest.mark.parametrize("name", parts_of(TWIN, TWIN))
def test_a_single_token_is_enough(name: str) -> None:
    rng = np.random.default_rng(0)
    value = cost(parts_of(TWIN, TWIN)[name], inside(rng, TWIN, [1]), inside(rng, TWIN, [1]), [1])
    # It can only look at itself.
    assert value == pytest.approx(0.0, abs=1e-12) if "feature" not in name else value > 0


@pytest.mark.parametrize("name", parts_of(STUDENT, TEACHER))
def test_gradients_against_finite_differences(name: str) -> None:
    rng = np.random.default_rng(3)
    lengths = [3, 1]
    ours, theirs = inside(rng, STUDENT, lengths), inside(rng, TEACHER, lengths)
    part = parts_of(STUDENT, TEACHER)[name]
    if part.learned is not None:
        part.learned.double()
    names = [(s, i) for s in ours for i in range(2) if s in part.needs]
    given = [torch.tensor(ours[s][i], requires_grad=True) for s, i in names]
    # Where no token is looked at, a map is 0 and its logarithm is held: no slope to compare.
    free = [
        (x > 0).double() if s is Signal.ATTENTIONS else torch.ones_like(x)
        for (s, _), x in zip(names, given, strict=True)
    ]
    fixed = [x.detach().clone() for x in given]

    def total(*values: torch.Tensor) -> torch.Tensor:
        student: dict[Signal, list[Any]] = {s: list(layers) for s, layers in ours.items()}
        for (s, i), x, at, may in zip(names, values, fixed, free, strict=True):
            student[s][i] = at + (x - at) * may
        return torch.stack(list(part.terms(see(student, theirs, lengths)).values())).sum()

    assert gradcheck(total, tuple(given), atol=1e-6)
    learned = list(part.learned.parameters()) if part.learned is not None else []
    for parameter in learned:
        total(*given).backward()
        assert parameter.grad is not None
        assert float(parameter.grad.abs().sum()) > 0


def permuted(told: Internals, order: list[int]) -> Internals:
    """The same network with its heads in another order."""
    return {
        s: [layer if s is Signal.STATES else layer[:, order] for layer in layers]
        for s, layers in told.items()
    }


def test_the_order_of_heads_is_nothing_where_heads_are_not_paired() -> None:
    rng = np.random.default_rng(5)
    lengths = [4, 2]
    ours, theirs = inside(rng, STUDENT, lengths), inside(rng, TEACHER, lengths)
    other = permuted(theirs, [2, 0, 3, 1])
    everything = ("attention", "query", "key", "value")
    for part in (
        Relation(RelationSettings(of=everything, num_heads=1), STUDENT, TEACHER),
        Attention(AttentionSettings(heads="mean"), STUDENT, TEACHER),
        Attention(AttentionSettings(heads="nearest"), STUDENT, TEACHER),
    ):
        assert cost(part, ours, other, lengths) == pytest.approx(cost(part, ours, theirs, lengths))
    # Paired heads are another matter, unless both sides are permuted alike.
    twin = inside(rng, TWIN, lengths)
    for paired in (
        Relation(RelationSettings(), STUDENT, TWIN),
        Attention(AttentionSettings(), STUDENT, TWIN),
    ):
        before = cost(paired, ours, twin, lengths)
        assert cost(paired, ours, permuted(twin, [1, 0]), lengths) != pytest.approx(before)
        both = cost(paired, permuted(ours, [1, 0]), permuted(twin, [1, 0]), lengths)
        assert both == pytest.approx(before)


def test_an_attention_relation_with_as_many_heads_is_the_attention_map() -> None:
    rng = np.random.default_rng(6)
    lengths = [4, 4]

    def with_maps(told: Internals) -> Internals:
        scores = [
            q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
            for q, k in zip(told[Signal.QUERIES], told[Signal.KEYS], strict=True)
        ]
        return {**told, Signal.ATTENTIONS: [softmax(each) for each in scores]}

    ours, theirs = (with_maps(inside(rng, TWIN, lengths)) for _ in range(2))
    relation = Relation(RelationSettings(of=("attention",)), TWIN, TWIN)
    attention = Attention(AttentionSettings(layers="last"), TWIN, TWIN)
    expected = cost(attention, ours, theirs, lengths)
    assert cost(relation, ours, theirs, lengths) == pytest.approx(expected)


def test_maps_kept_in_half_precision_are_distributions_again() -> None:
    rng = np.random.default_rng(7)
    lengths = [5, 3]
    told = inside(rng, TWIN, lengths)
    half = {s: [x.astype(np.float16) for x in layers] for s, layers in told.items()}
    exact = {s: [x.astype(np.float32) for x in layers] for s, layers in told.items()}
    value = cost(Attention(AttentionSettings(), TWIN, TWIN), exact, half, lengths)
    assert -1e-7 <= value < 1e-6


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3, 6, [(0, 1), (1, 3), (2, 5)]),
        (2, 12, [(0, 5), (1, 11)]),
        (6, 6, [(i, i) for i in range(6)]),
        (3, 4, [(0, 0), (1, 1), (2, 3)]),
        (1, 5, [(0, 4)]),
        (4, 2, [(0, 0), (1, 0), (2, 0), (3, 1)]),
    ],
)
def test_uniform_layers(student: int, teacher: int, expected: list[tuple[int, int]]) -> None:
    assert list(layer_pairs("uniform", student, teacher)) == expected
    assert layer_pairs("last", student, teacher) == ((student - 1, teacher - 1),)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(3, 6, [3, 4, 5]), (2, 12, [10, 11]), (3, 3, [0, 1, 2]), (1, 5, [4]), (4, 2, [0, 0, 0, 1])],
)
def test_deepest_layers(student: int, teacher: int, expected: list[int]) -> None:
    assert list(layer_pairs("deepest", student, teacher)) == list(enumerate(expected))


def test_settings_that_do_not_fit_the_networks_are_refused() -> None:
    with pytest.raises(SpecError, match="teacher has no layer 4"):
        layer_pairs(((0, 1), (1, 4)), 2, 4)
    with pytest.raises(SpecError, match="student has no layer 2"):
        layer_pairs(((2, 0),), 2, 4)
    with pytest.raises(SpecError, match="twice"):
        layer_pairs(((1, 0), (1, 0)), 2, 4)
    with pytest.raises(SpecError, match="cannot be paired"):
        Attention(AttentionSettings(heads="pairs"), STUDENT, TEACHER)
    with pytest.raises(SpecError, match="width 6 cannot be compared with 10"):
        Feature(FeatureSettings(project=False), STUDENT, TEACHER)
    with pytest.raises(SpecError, match="inner width of 8 cannot be cut into 3"):
        Relation(RelationSettings(num_heads=3), STUDENT, TEACHER)
