"""Intervals over several seeds: the rows are drawn, not the answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgedistill.evaluate.generation_score import gain, score

PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "generation_pooled.py"
Answers = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def pooled() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generation_pooled", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(seed: int, num_rows: int = 120) -> Answers:
    """Records of two fields; the teacher has one in ten wrong, the student one in five, or none."""
    rng = np.random.default_rng(seed)
    expected = [json.dumps({"a": i % 7, "b": str(i)}) for i in range(num_rows)]

    def said(wrong: float) -> np.ndarray:
        drawn = rng.random(num_rows)
        return np.array([
            text if p > wrong else "" if p < wrong / 3 else json.dumps({"a": -1, "b": str(i)})
            for i, (text, p) in enumerate(zip(expected, drawn, strict=True))
        ])  # fmt: skip

    return {"expected": np.array(expected), "teacher": said(0.1), "shipped": said(0.2)}


def test_one_seed_is_the_house_s_bootstrap(pooled: ModuleType) -> None:
    found = answers(0)
    texts = {role: [text or None for text in found[role].tolist()] for role in found}
    expected = found["expected"].tolist()
    value, low, high = pooled.pooled_score([found], "teacher")
    assert value == pytest.approx(score("field_f1", texts["teacher"], expected), abs=1e-6)
    assert low < value < high
    more = gain("field_f1", texts["teacher"], texts["shipped"], expected)
    value, low, high = pooled.pooled_gain([found], "teacher", "shipped")
    assert value == pytest.approx(more.value, abs=1e-6)
    assert (low, high) == pytest.approx((more.low, more.high), abs=0.005)


def test_the_same_seed_twice_tells_no_more_than_once(pooled: ModuleType) -> None:
    found = answers(1)
    once = pooled.pooled_retention([found], "teacher", "shipped")
    assert pooled.pooled_retention([found] * 5, "teacher", "shipped") == pytest.approx(once)


def test_seeds_are_averaged(pooled: ModuleType) -> None:
    seeds = [answers(seed) for seed in range(3)]
    each = [pooled.pooled_score([found], "shipped")[0] for found in seeds]
    assert pooled.pooled_score(seeds, "shipped")[0] == pytest.approx(np.mean(each))
    kept = pooled.pooled_retention(seeds, "teacher", "shipped")
    best = [pooled.pooled_score([found], "teacher")[0] for found in seeds]
    assert kept[0] == pytest.approx(np.mean(each) / np.mean(best))
    assert kept[1] < kept[0] < kept[2]


def test_nothing_right_is_no_crash(pooled: ModuleType) -> None:
    found = answers(2) | {"teacher": np.array([""] * 120), "shipped": np.array([""] * 120)}
    assert pooled.pooled_retention([found], "teacher", "shipped") == (0.0, 0.0, 0.0)


def test_other_rows_are_refused(pooled: ModuleType) -> None:
    with pytest.raises(ValueError, match="other test rows"):
        pooled.pooled_score([answers(0), answers(0, num_rows=119)], "teacher")
