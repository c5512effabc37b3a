"""Importance against finite differences and brute force; likeness against its definitions."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.core.protocols import ModelOutput
from edgedistill.models.structure.given import UNASKED, EvidenceBatch
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
from small_network import COLUMNS, KINDS, WEIGHTS, Small, small


@pytest.fixture(scope="module", params=KINDS)
def bert(request: pytest.FixtureRequest) -> Small:
    return small("bert", request.param)


def loss_by_hand(output: ModelOutput, batch: EvidenceBatch) -> float:
    """Row by row: minus the log of what each right answer is given, by weight."""
    logs = output.logits.log_softmax(-1)
    if logs.ndim == 2:
        return -float(np.mean([float(logs[i, label]) for i, label in enumerate(batch.labels)]))
    asked = [
        -float(logs[row, place, tag])
        for row, tags in enumerate(batch.labels.tolist())
        for place, tag in enumerate(tags)
        if tag >= 0
    ]
    total = float(np.mean(asked))
    if output.label_logits is not None:
        for place, (columns, weight) in enumerate(zip(COLUMNS, WEIGHTS[1:], strict=True)):
            values = output.label_logits[:, columns].log_softmax(-1)
            right = batch.values[:, place].tolist()
            total -= weight * float(np.mean([float(values[i, v]) for i, v in enumerate(right)]))
    return total


def test_taylor_is_the_slope_that_finite_differences_find(bert: Small) -> None:
    network = copy.deepcopy(bert.network).double()
    layers = network.encoder_layers()
    sites = [head_site(layers[0]), neuron_site(layers[3]), channel_site(network)]
    *_, batch = bert.given.evidence.batches()
    slopes = gate_gradients(network, sites, batch)

    def loss(place: int, structure: int, change: float) -> float:
        gates = [torch.ones(site.num, dtype=torch.float64) for site in sites]
        gates[place][structure] += change
        with torch.no_grad(), gated(sites, gates):
            return loss_by_hand(network(batch.ids, batch.mask), batch)

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
    for batch in bert.given.evidence.batches():
        (slope,) = gate_gradients(bert.network, [site], batch)
        total += len(batch.ids) * slope.numpy() ** 2
    np.testing.assert_allclose(found.numpy(), total / 40, rtol=1e-5)


def test_what_is_to_be_kept_are_the_models_own_answers(bert: Small) -> None:
    evidence = bert.given.evidence
    ids, mask = bert.batch()
    with torch.no_grad():
        output = bert.teacher(ids, mask)
    best = output.logits.argmax(-1).numpy()
    if evidence.tagged is None:
        assert np.array_equal(evidence.labels, best)
        return
    counts = evidence.tagged.counts
    assert np.array_equal(evidence.labels[counts], best[mask.bool().numpy()][counts])
    assert (evidence.labels[~counts] == UNASKED).all()
    for place, columns in enumerate(evidence.tagged.columns):
        wanted = output.label_logits[:, columns].argmax(1).numpy()
        assert np.array_equal(evidence.values[:, place], wanted)


def test_texts_without_a_token_that_counts_add_nothing() -> None:
    bert = small("bert", "tokens")
    first, *_ = bert.given.evidence.batches()
    alone = replace(first, labels=torch.full_like(first.labels, UNASKED))
    slopes = gate_gradients(bert.network, [head_site(bert.network.encoder_layers()[0])], alone)
    assert [float(slope.abs().sum()) for slope in slopes] == [0.0]


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
