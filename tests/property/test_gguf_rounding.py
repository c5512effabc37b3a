"""Rounding to ggml's blocks: never worse than plain rounding, within bounds, near the best."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.core.errors import ModelError
from edgedistill.export.gguf_quantise.matrix import BLOCK_TYPES, FLOOR, column_weights, quantise

gguf = pytest.importorskip("gguf")

Matrix = npt.NDArray[np.float32]
K_QUANTS = ("Q4_K", "Q5_K", "Q6_K")
PLAIN = tuple(kind for kind in BLOCK_TYPES if kind not in K_QUANTS)


def decoded(stored: npt.NDArray[np.uint8], kind: str) -> Matrix:
    """What any reader of GGUF makes of the bytes."""
    values: Matrix = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[kind])
    return values


def error(values: Matrix, found: Matrix, weights: npt.NDArray[Any]) -> float:
    return float((weights * (values.astype(np.float64) - found) ** 2).sum())


def plain(values: Matrix, kind: str) -> Matrix:
    """Reference rounding: the package's own; for K-quants the extremes of each sub-block."""
    if kind in PLAIN:
        return decoded(gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind]), kind)
    reference: Callable[[Matrix], Matrix] = plain_q6 if kind == "Q6_K" else plain_q45[kind]
    return np.stack([reference(block) for block in values.reshape(-1, 256)]).reshape(values.shape)


def half(value: float) -> float:
    return float(np.float16(value))


def plain_q6(block: Matrix) -> Matrix:
    parts = block.reshape(16, 16)
    scales = [float(part[np.abs(part).argmax()]) / -32 for part in parts]
    d = half(max(scales, key=abs) / -128)
    found = np.zeros_like(parts)
    for number, (part, scale) in enumerate(zip(parts, scales, strict=True)):
        step = d * np.clip(np.rint(scale / d), -128, 127) if d else 0.0
        if step:
            found[number] = step * np.clip(np.rint(part / step), -32, 31)
    return found.reshape(256)


def plain_affine(block: Matrix, top: int) -> Matrix:
    parts = block.reshape(8, 32)
    lows = [min(0.0, float(part.min())) for part in parts]
    scales = [(float(part.max()) - low) / top for part, low in zip(parts, lows, strict=True)]
    d, d_min = half(max(scales) / 63), half(max(-low for low in lows) / 63)
    found = np.zeros_like(parts)
    for number, (part, scale, low) in enumerate(zip(parts, scales, lows, strict=True)):
        step = d * np.clip(np.rint(scale / d), 0, 63) if d else 0.0
        base = d_min * np.clip(np.rint(-low / d_min), 0, 63) if d_min else 0.0
        levels = np.clip(np.rint((part + base) / step), 0, top) if step else np.zeros(32)
        found[number] = step * levels - base
    return found.reshape(256)


plain_q45: dict[str, Callable[[Matrix], Matrix]] = {
    "Q4_K": lambda block: plain_affine(block, 15),
    "Q5_K": lambda block: plain_affine(block, 31),
}


def drawn(seed: int, shape: tuple[int, int], form: str) -> Matrix:
    """Random matrices of many sorts."""
    rng = np.random.default_rng(seed)
    values: npt.NDArray[Any] = rng.normal(size=shape) * 10.0 ** rng.integers(-4, 3)
    if form == "heavy":
        values = rng.standard_t(2, size=shape)
    elif form == "positive":
        values = np.abs(values) + rng.uniform(0, 3)
    elif form == "sparse":
        values *= rng.random(shape) < 0.1
    elif form == "few":
        values = rng.integers(-2, 3, size=shape) * 0.25
    return values.astype(np.float32)


FORMS = st.sampled_from(["normal", "heavy", "positive", "sparse", "few"])


@pytest.mark.parametrize("kind", BLOCK_TYPES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), form=FORMS, used=st.sampled_from([None, 0.3, 3.0]))
def test_never_worse_than_plain_rounding(
    kind: str, seed: int, form: str, used: float | None
) -> None:
    values = drawn(seed, (5, 512), form)
    importance = None if used is None else np.random.default_rng(seed).gamma(used, size=512)
    weights = column_weights(importance, 512)
    stored = quantise(values, kind, importance)
    assert stored.shape == (5, 512 // BLOCK_TYPES[kind].width * SIZES[kind])
    np.testing.assert_array_equal(stored, quantise(values, kind, importance))
    ours, theirs = (error(values, v, weights) for v in (decoded(stored, kind), plain(values, kind)))
    # Both errors are sums of floats: a few units in the last place, and of what F16 can say.
    least = weights.sum() * 5 * (np.abs(values).max() * 2e-7) ** 2
    assert ours <= theirs * (1 + 1e-5) + least


SIZES = {"Q8_0": 34, "Q5_1": 24, "Q5_0": 22, "Q4_1": 20, "Q4_0": 18, "Q6_K": 210, "Q5_K": 176,
         "Q4_K": 144}  # fmt: skip


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_the_search_gains_on_random_matrices(kind: str) -> None:
    """Not only no worse: a tenth of the error goes without, and more with an importance."""
    values = drawn(1, (64, 512), "normal")
    importance = np.random.default_rng(2).gamma(0.3, size=512)
    even, by_use = column_weights(None, 512), column_weights(importance, 512)
    reference = plain(values, kind)
    alike, weighted = (decoded(quantise(values, kind, i), kind) for i in (None, importance))
    assert error(values, alike, even) < 0.9 * error(values, reference, even)
    assert error(values, weighted, by_use) < 0.85 * error(values, reference, by_use)
    assert error(values, weighted, by_use) < error(values, alike, by_use)


LEVELS = {"Q8_0": 254, "Q5_1": 31, "Q5_0": 31, "Q4_1": 15, "Q4_0": 15}


@pytest.mark.parametrize("kind", LEVELS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), form=FORMS)
def test_a_block_errs_by_no_more_than_its_steps(kind: str, seed: int, form: str) -> None:
    """Root mean square of a block: half a step of rounding at most, the step that of its span."""
    blocks = drawn(seed, (8, 32), form)
    found = decoded(quantise(blocks, kind), kind)
    if kind.endswith("_1"):
        span: npt.NDArray[Any] = blocks.max(1) - blocks.min(1)
        rough: npt.NDArray[Any] = np.abs(blocks).max(1) * 2.0**-10
    else:
        span = 2 * np.abs(blocks).max(1)
        rough = span * 2.0**-11
    # A level short at the far end, where there is one more below zero than above.
    step = span / LEVELS[kind] * (1.5 if kind in ("Q4_0", "Q5_0") else 0.5)
    rms = np.sqrt(((blocks - found) ** 2).mean(1))
    # F16 has no finer steps than 2^-24: what a scale misses counts once for every level.
    assert (rms <= step + rough + LEVELS[kind] * 2.0**-25).all()


@pytest.mark.parametrize(("kind", "low", "high"), [("Q4_0", -8, 7), ("Q5_0", -16, 15)])
def test_near_the_best_of_all_scales(kind: str, low: int, high: int) -> None:
    """Against every F16 scale within a factor of three of the plain one."""
    ratios = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        block = rng.normal(size=(1, 32)).astype(np.float32)
        importance = rng.gamma(0.5, size=32)
        weights = column_weights(importance, 32)
        largest = np.abs(block).max()
        scales = np.arange(2**15, dtype=np.uint16).view(np.float16).astype(np.float64)
        near = scales[np.isfinite(scales) & (scales > largest / -low / 3) & (scales < largest)]
        both = np.concatenate([near, -near])[:, None]
        every = both * np.clip(np.rint(block / both), low, high)
        best = float((weights * (block - every) ** 2).sum(1).min())
        found = error(block, decoded(quantise(block, kind, importance), kind), weights)
        ratios.append(found / best)
    assert min(ratios) > 1 - 1e-6
    assert max(ratios) < 1.2
    assert np.mean(ratios) < 1.03


@pytest.mark.parametrize("seed", range(4))
def test_near_the_best_of_all_scales_and_offsets(seed: int) -> None:
    """Q4_1 against the optimum over all assignments of levels to sorted weights.

    With few distinct weights the levels of a best fit can be enumerated: each is rounded from a
    line, which two of the weights and two levels determine.
    """
    rng = np.random.default_rng(seed)
    block = np.repeat(rng.normal(size=6), 6)[:32].astype(np.float32)[None]
    weights = np.ones(32)
    best = np.inf
    ends = np.unique(block)
    for (a, b), (low, high) in itertools.product(
        itertools.combinations(ends, 2), itertools.combinations(range(16), 2)
    ):
        step = (float(b) - float(a)) / (high - low)
        levels = np.clip(np.rint((block[0] - a) / step) + low, 0, 15)
        line = np.polynomial.polynomial.polyfit(levels, block[0], 1)
        best = min(best, error(block[0], line[0] + line[1] * levels, weights))
    found = error(block, decoded(quantise(block, "Q4_1"), "Q4_1"), weights)
    rough = 32 * (np.abs(block).max() * 2.0**-10) ** 2
    assert found <= 2 * best + rough


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_edges(kind: str) -> None:
    zeros = np.zeros((2, 256), np.float32)
    assert not decoded(quantise(zeros, kind), kind).any()
    outlier = drawn(3, (2, 256), "normal")
    outlier[0, 77] = 1e4
    found = decoded(quantise(outlier, kind), kind)
    assert found[0, 77] == pytest.approx(1e4, rel=0.01)
    # The other row has blocks of its own.
    np.testing.assert_array_equal(found[1:], decoded(quantise(outlier[1:], kind), kind))
    constant = np.full((1, 256), -0.75, np.float32)
    np.testing.assert_allclose(decoded(quantise(constant, kind), kind), constant, rtol=2e-3)
    for tiny in (1e-9, 1e-20, 1e-38):
        small = decoded(quantise(drawn(4, (1, 256), "normal") * np.float32(tiny), kind), kind)
        assert np.abs(small).max() <= 1e-3
    assert quantise(np.zeros((0, 256)), kind).size == 0


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_an_outlier_that_nothing_reads_takes_fewer_bits(kind: str) -> None:
    values = drawn(6, (40, 256), "normal")
    values[:, 77] = 6 * values.std()
    unread = np.ones(256)
    unread[77] = 0.0
    wrong = [(decoded(quantise(values, kind, i), kind) - values) ** 2 for i in (None, unread)]
    read = np.arange(256) != 77
    assert wrong[1][:, read].sum() < wrong[0][:, read].sum()


@pytest.mark.parametrize("kind", BLOCK_TYPES)
def test_what_cannot_be_stored_is_refused(kind: str) -> None:
    values = drawn(0, (2, 512), "normal")
    for wrong in (np.nan, np.inf, -np.inf):
        broken = values.copy()
        broken[1, 300] = wrong
        with pytest.raises(ModelError, match="not finite"):
            quantise(broken, kind)
    with pytest.raises(ModelError, match="range of F16"):
        quantise(values * np.float32(1e12), kind)
    for width in (BLOCK_TYPES[kind].width + 1, BLOCK_TYPES[kind].width // 2):
        with pytest.raises(ModelError, match="a width of"):
            quantise(np.ones((2, width)), kind)
    with pytest.raises(ModelError, match="shape"):
        quantise(values[0], kind)
    for importance in (np.ones(511), -np.ones(512), np.full(512, np.nan)):
        with pytest.raises(ModelError, match="importances"):
            quantise(values, kind, importance)


def test_columns_never_used_still_count() -> None:
    importance = np.array([0.0, 1.0, 3.0, 0.0])
    weights = column_weights(importance, 4)
    assert weights.mean() == pytest.approx(1)
    assert weights[2] == pytest.approx(3 * weights[1])
    assert weights[0] == pytest.approx(FLOOR * weights[1])
    np.testing.assert_array_equal(column_weights(np.zeros(4), 4), np.ones(4))
    np.testing.assert_array_equal(column_weights(None, 4), np.ones(4))
