"""Importance against finite differences and brute force; likeness against its definitions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.models.structure.importance import (
    channel_site,
    gate_gradients,
    gated,
    head_site,
    importances,
    largest,
    neuron_site,
)
from edgedistill.models.structure.likeness import linear_cka, mean_cosine
from small_network import Small, small


@pytest.fixture(scope="module")
def bert() -> Small:
    return small()


def test_taylor_is_the_slope_that_finite_differences_find(bert: Small) -> None:
    network = copy.deepcopy(bert.network).double()
    layers = network.encoder_layers()
    sites = [head_site(layers[0]), neuron_site(layers[3]), channel_site(network)]
    ids, mask = bert.batch()
    labels = bert.given.evidence.labels
    slopes = gate_gradients(network, sites, ids, mask, labels)

    def loss(place: int, structure: int, change: float) -> float:
        gates = [torch.ones(site.num, dtype=torch.float64) for site in sites]
        gates[place][structure] += change
        with torch.no_grad(), gated(sites, gates):
            return float(F.cross_entropy(network(ids, mask).logits, labels))

    step, compared = 1e-4, 0
    for place, structures in enumerate(((0, 1, 2, 3), (0, 9, 39), (0, 7, 23))):
        for each in structures:
            slope = (loss(place, each, step) - loss(place, each, -step)) / (2 * step)
            assert float(slopes[place][each]) == pytest.approx(slope, rel=1e-3, abs=1e-6)
            compared += abs(slope) > 1e-4
    assert compared >= 8


def test_taylor_averages_squares_over_batches(bert: Small) -> None:
    site = neuron_site(bert.network.encoder_layers()[1])
    (found,) = importances(bert.network, [site], bert.given.evidence, "taylor")
    total = np.zeros(40)
    for ids, mask, labels in bert.given.evidence.batches():
        (slope,) = gate_gradients(bert.network, [site], ids, mask, labels)
        total += len(ids) * slope.numpy() ** 2
    np.testing.assert_allclose(found.numpy(), total / 40, rtol=1e-5)
    # Labels are the model's own answers, whatever people say.
    with torch.no_grad():
        assert torch.equal(bert.given.evidence.labels, bert.teacher(*bert.batch()).logits.argmax(1))


def test_activation_is_what_is_passed_on_by_what_reads_it(bert: Small) -> None:
    layer = bert.network.encoder_layers()[0]
    heads, neurons = importances(
        bert.network, [head_site(layer), neuron_site(layer)], bert.given.evidence, "activation"
    )
    ids, mask = bert.batch()
    with torch.no_grad():
        states = bert.network.embedding(ids)
        bias = (1.0 - mask.float())[:, None, None, :] * -1e4
        query, key, value = layer.qkv(states).view(*ids.shape, 3, 4, 6).permute(2, 0, 3, 1, 4)
        mixed = ((query / 6**0.5) @ key.transpose(-1, -2) + bias).softmax(-1) @ value
        mixed = mixed.transpose(1, 2).flatten(2)
        attended = layer.attention_norm(states + layer.attended(mixed))
        inner = F.gelu(layer.up(attended))
    for found, passed, weight, width in (
        (heads, mixed, layer.attended.weight, 6), (neurons, inner, layer.down.weight, 1),
    ):  # fmt: skip
        squares = passed[mask.bool()].square().mean(0) * weight.detach().square().sum(0)
        wanted = squares.view(-1, width).sum(1).sqrt()
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_magnitude_is_the_norm_in_times_the_norm_out(bert: Small) -> None:
    layer = bert.network.encoder_layers()[2]
    site = head_site(layer)
    (found,) = importances(bert.network, [site], bert.given.evidence, "magnitude")
    values = layer.qkv.weight.detach().numpy()[48:].reshape(4, 6, 24)
    out = layer.attended.weight.detach().numpy().reshape(24, 4, 6)
    for head in range(4):
        wanted = np.linalg.norm(values[head]) * np.linalg.norm(out[:, head])
        assert float(found[head]) == pytest.approx(float(wanted), rel=1e-5)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 40)
)  # few values: ties are the rule
@settings(max_examples=60)
def test_the_largest_are_kept_and_of_equals_the_first(values: list[int], num: int) -> None:
    kept = largest(torch.tensor(values, dtype=torch.float32), num).tolist()
    ranked = sorted(range(len(values)), key=lambda place: (-values[place], place))
    assert kept == sorted(ranked[:num])


def gram_cka(x: np.ndarray, y: np.ndarray) -> float:
    """By Gram matrices and HSIC, the other way to write it."""
    centre = np.eye(len(x)) - 1.0 / len(x)
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return float((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


@given(st.integers(2, 12), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**16))
@settings(max_examples=40)
def test_cka_is_that_of_gram_matrices(num: int, first: int, second: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(num, first)), rng.normal(size=(num, second))
    found = linear_cka(torch.from_numpy(x), torch.from_numpy(y))
    assert found == pytest.approx(gram_cka(x, y), rel=1e-6, abs=1e-9)
    turned = np.linalg.qr(rng.normal(size=(first, first)))[0]
    assert linear_cka(torch.from_numpy(x), torch.from_numpy(3 * x @ turned + 1)) == pytest.approx(1)


def test_likeness_of_states_that_do_not_vary_or_stand_across() -> None:
    still, across = torch.ones(5, 3), torch.eye(4)[:, :2]
    assert linear_cka(still, torch.randn(5, 2)) == 0.0
    assert mean_cosine(across[:2], across[:2].flip(1)) == pytest.approx(0.0)
    assert mean_cosine(across[:2], 2 * across[:2]) == pytest.approx(1.0)
