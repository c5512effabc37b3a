"""Clipping of steps against brute force: every step of a group, on the rows themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clipped_by_hand import clipped_by_hand, errors, groups_of, rounded
from edgedistill.compress.blocks import to_blocks
from edgedistill.compress.clipping import SHARES, clipped
from edgedistill.core.weight_groups import GROUP


def inputs(rng: np.random.Generator, num_rows: int, width: int) -> np.ndarray:
    """Rows whose places depend on each other."""
    return rng.normal(size=(num_rows, width)) @ rng.normal(size=(width, width)) / width**0.5


@pytest.mark.parametrize("width", [5, 32, GROUP, GROUP + 44, 2 * GROUP])
def test_every_group_takes_the_best_step_there_is(width: int) -> None:
    rng = np.random.default_rng(width)
    values = rng.standard_t(4, size=(width, 6)).astype(np.float32)
    rows = inputs(rng, 3 * width, width)
    plain = to_blocks(values, 4)
    found = errors(rows, clipped(values, plain, rows.T @ rows).values, values)
    by_hand = errors(rows, clipped_by_hand(rows, values), values)
    np.testing.assert_allclose(found, by_hand, rtol=2e-3)
    before = errors(rows, plain.values, values)
    assert (found <= before * (1 + 1e-5)).all()
    assert found.sum() < 0.9 * before.sum()


def test_groups_in_turn_come_near_the_best_of_all_pairs() -> None:
    rng = np.random.default_rng(3)
    width = 2 * GROUP
    values, rows = rng.normal(size=(width, 4)).astype(np.float32), inputs(rng, 400, width)
    plain = to_blocks(values, 4)
    before = errors(rows, plain.values, values).sum()
    halves = [
        [rows[:, part] @ (rounded(values[part], share) - values[part]) for share in (1.0, *SHARES)]
        for part in groups_of(width)
    ]
    pairs = [((first + second) ** 2).sum(0) for first, second in itertools.product(*halves)]
    best = np.min(pairs, axis=0).sum()
    found = errors(rows, clipped(values, plain, rows.T @ rows).values, values).sum()
    assert best <= found * (1 + 1e-5)
    assert (before - found) / (before - best) > 0.75


def test_a_large_weight_whose_input_is_seldom_there_is_clipped() -> None:
    """Its step falls to about half, which nothing but that weight loses by."""
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, size=(16, 1)).astype(np.float32)
    values[3] = 4.0
    rows = rng.normal(size=(200, 16))
    rows[:, 3] *= 1e-3
    plain = to_blocks(values, 4)
    found = clipped(values, plain, rows.T @ rows)
    assert np.abs(found.scales) < 0.6 * np.abs(plain.scales)
    assert errors(rows, found.values, values) < 0.5 * errors(rows, plain.values, values)


def test_what_nothing_is_known_of_stays_as_it_was() -> None:
    """Inputs that were never there, weights of zero, and weights that lie on their steps."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 5)).astype(np.float32)
    values[:, 2] = 0.0
    plain = to_blocks(values, 4)
    unseen = clipped(values, plain, np.zeros((200, 200)))
    assert np.array_equal(unseen.codes, plain.codes)
    assert np.array_equal(unseen.scales, plain.scales)
    rows = rng.normal(size=(300, 200))
    assert (clipped(values, plain, rows.T @ rows).values[:, 2] == 0).all()
    exact = to_blocks(plain.values, 4)
    again = clipped(plain.values, exact, rows.T @ rows)
    np.testing.assert_allclose(again.values, plain.values, rtol=1e-5, atol=1e-7)


def test_the_fit_holds_on_rows_that_it_did_not_see() -> None:
    """As many outputs as there are, a group chooses among few steps: little to overfit."""
    rng = np.random.default_rng(5)
    values, mixing = rng.normal(size=(64, 40)).astype(np.float32), rng.normal(size=(64, 64))
    seen, other = (rng.normal(size=(num, 64)) @ mixing for num in (80, 4000))
    plain = to_blocks(values, 4)
    found = clipped(values, plain, seen.T @ seen)
    before, after = (errors(other, blocks.values, values).sum() for blocks in (plain, found))
    assert after < 0.95 * before
