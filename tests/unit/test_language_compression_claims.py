"""Claims of the benchmark of a cut and rounded language model, from rows that are made up."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NUM_ROWS = 80


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The benchmark's module, which imports others as scripts do."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("compression_language")
    sys.path.remove(str(BENCHMARKS))


def measured(bench: ModuleType, wrong: dict[str, int], apart: dict[str, float]) -> Any:
    """`wrong`: how many of the answers of a file are wrong; `apart`: nats a token."""
    files = importlib.import_module("compression_language_files")
    rng = np.random.default_rng(4)
    expected = [json.dumps({"a": i}) for i in range(NUM_ROWS)]
    answers = {"expected": np.array(expected)}
    distances, lengths = {}, rng.integers(3, 9, NUM_ROWS).astype(float)
    for name in ("teacher", *bench.TYPES):
        bad = set(rng.permutation(NUM_ROWS)[: wrong.get(name, 0)].tolist())
        answers[name] = np.array(["" if i in bad else text for i, text in enumerate(expected)])
        noise = 1 + 0.1 * rng.random(NUM_ROWS)
        distances[name] = files.Distances(
            lengths - (rng.random(NUM_ROWS) < apart.get(name, 0)), lengths,
            apart.get(name, 0) * lengths * noise, (1 + apart.get(name, 0)) * lengths, lengths,
        )  # fmt: skip
    rates = dict.fromkeys((bench.FULL, bench.PLAIN, bench.AWQ, "teacher"), (2.0, 1.5, 2.5))
    size = {name: 1000 * (i + 1) for i, name in enumerate(("teacher", *bench.TYPES))}
    return files.Measured(
        0, "abc1234", {"teacher": 100, "student": 48}, answers, distances, size, rates,
        {bench.FULL: "0.9, 100.0%, ships"},
    )  # fmt: skip


def claims(bench: ModuleType, *seeds: Any) -> dict[str, Any]:
    return {claim: (values, holds) for claim, values, _, _, holds in bench.rows_of(seeds)}


def test_a_bar_that_is_met_holds_and_one_that_is_missed_is_shown_as_missed(
    bench: ModuleType,
) -> None:
    kept = f"share of the teacher's field F1, student as {bench.AWQ}"
    above = "field F1, AWQ above plain rounding"
    nearer = "divergence from full precision, plain rounding above AWQ"
    good = measured(bench, {bench.PLAIN: 20, bench.AWQ: 2}, {bench.PLAIN: 0.3, bench.AWQ: 0.1})
    found = claims(bench, good)
    assert all(holds for _, holds in found.values())
    assert found[kept][0][0] == pytest.approx(2 * 78 / (78 + 80))
    assert found[above][0][0] > 5
    assert found[nearer][0][0] == pytest.approx(0.2 * 1.05, rel=0.05)
    bad = measured(bench, {bench.PLAIN: 2, bench.AWQ: 20}, {bench.PLAIN: 0.1, bench.AWQ: 0.1})
    found = claims(bench, bad)
    assert not any(found[claim][1] for claim in (kept, above))
    assert found[above][0][0] < 0
    told = "\n".join(bench.notes([bad]))
    assert f"| 0 | {bench.AWQ} | {2 * 60 / (60 + 80):.4f} |" in told


def test_equal_files_are_no_gain(bench: ModuleType) -> None:
    same = measured(bench, {}, {})
    for claim, (values, holds) in claims(bench, same).items():
        if "above" in claim:
            assert values == (0.0, 0.0, 0.0)
            assert holds == ("perplexity" in claim)


def test_a_ratio_is_of_sums_and_its_bounds_are_of_rows(bench: ModuleType) -> None:
    rng = np.random.default_rng(0)
    above, below = rng.random(200) * 9, rng.integers(1, 9, 200).astype(float)
    value, low, high = bench.pooled_ratio([(above, below)])
    assert value == pytest.approx(above.sum() / below.sum())
    drawn = rng.integers(200, size=(4000, 200))
    expected = np.quantile(above[drawn].sum(1) / below[drawn].sum(1), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected), rel=0.02)
    # The same rows are drawn for both: what is subtracted from itself leaves nothing.
    assert bench.pooled_ratio([(above, below)], [(above, below)]) == (0.0, 0.0, 0.0)
    twice = bench.pooled_ratio([(above, below), (2 * above, below)])
    assert twice[0] == pytest.approx(1.5 * value)


def test_the_task_is_the_generation_benchmark_s_with_another_student(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = bench.SNIPS.spec(3, quick=False)

    def write(self: Any, seed: int, work: Path, *, quick: bool) -> Path:
        path = work / "given.yaml"
        path.write_text(yaml.safe_dump(self.spec(seed, quick=quick)))
        return path

    monkeypatch.setattr(type(bench.SNIPS), "write_task", write)
    path = bench.write_task(3, tmp_path, quick=False)
    written = yaml.safe_load(path.read_text())
    assert path.name == "snips-half-3.yaml"
    assert written["teacher"] == spec["teacher"]
    assert written["student"]["initialise"] == "teacher"
    from edgedistill.core.generation_task import GenerationSpec

    assert GenerationSpec.model_validate(written).student.weight_types == bench.TYPES


def test_what_is_kept_is_read_again(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = importlib.import_module("compression_language_files")
    monkeypatch.setattr(importlib.import_module("kept_seeds"), "FOLDER", tmp_path)
    each = measured(bench, {bench.PLAIN: 20, bench.AWQ: 2}, {bench.PLAIN: 0.3, bench.AWQ: 0.1})
    files.save(each)
    again = files.load(0)
    assert bench.rows_of([again]) == bench.rows_of([each])
    assert bench.notes([again]) == bench.notes([each])
    assert f"| 0 | {bench.FULL} |" in "\n".join(bench.notes([again]))
