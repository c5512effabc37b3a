"""A seed of the benchmark of compression: kept, read again, pooled with others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NUM_ROWS = 1001


@pytest.fixture
def seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, with a folder of its own for what it writes."""
    sys.path.insert(0, str(BENCHMARKS))
    module = importlib.import_module("compression_seed")
    monkeypatch.setattr(importlib.import_module("kept_seeds"), "FOLDER", tmp_path)
    yield module
    sys.path.remove(str(BENCHMARKS))


def made(seeds: ModuleType, number: int, wrong: int) -> Any:
    """A seed whose ways get `wrong` more rows wrong than the whole model."""
    files = importlib.import_module("compression_files")
    tasks = importlib.import_module("compression_tasks")
    rng = np.random.default_rng(number)
    whole = rng.random(NUM_ROWS) < 0.97
    worse = whole.copy()
    worse[np.flatnonzero(whole)[:wrong]] = False
    names = [files.PEER, *files.SEQUENCES]
    right = {seeds.WHOLE: whole, seeds.PLAIN: whole, seeds.ROUNDED_PLAIN: worse}
    right |= dict.fromkeys(tasks.RETENTION, worse)
    right |= {seeds.FILE + name: whole for name in names}
    way = {
        "accuracy": worse.mean(), "teacher_accuracy": whole.mean(), "size_bytes": 5_000_000,
        "latency": {"p50_ms": 1.0, "p95_ms": 2.0}, "speed_up_p50": 4.0, "passes": "int8",
        "ships": True,
    }  # fmt: skip
    step = {"layer_parameters": 100.0, "parameters": 200.0, "size_bytes": 800.0, "p50_ms": 4.0}
    return seeds.Seed(
        number, "abc1234", dict.fromkeys(tasks.RETENTION, way),
        [step | {"name": ""}, step | {"name": "prune_encoder", "layer_parameters": 35.0}],
        [seeds.FileRow(name, 1000, (2.0, 1.5, 2.5)) for name in names], 90_000_000,
        dict.fromkeys(files.PALETTES, 995), right,
    )  # fmt: skip


def test_what_is_kept_is_read_again(seeds: ModuleType) -> None:
    each = made(seeds, 3, wrong=5)
    seeds.save(each)
    seeds.save(made(seeds, 11, wrong=9))
    assert seeds.kept_seeds.kept(seeds.NAME) == [3, 11]
    again = seeds.load(3)
    assert again.ways == each.ways
    assert again.files == each.files
    for name, rows in each.right.items():
        np.testing.assert_array_equal(again.right[name], rows)


def test_a_page_of_seeds_that_were_kept_is_that_of_the_seeds(seeds: ModuleType) -> None:
    page = importlib.import_module("compression_page")
    each = [made(seeds, number, wrong) for number, wrong in ((0, 2), (1, 40))]
    seeds.save(each[0])
    mine = seeds.kept_seeds.pooled(seeds.NAME, each[1:], seeds.save, seeds.load, pool=False)
    assert [one.seed for one in mine] == [1]
    again = seeds.kept_seeds.pooled(seeds.NAME, each[1:], seeds.save, seeds.load, pool=True)
    assert page.rows_of(again) == page.rows_of(each)
    assert page.notes(again) == page.notes(each)
    found = {claim: (values, holds) for claim, values, _, _, holds in page.rows_of(each)}
    kept, holds = found["recipe `fast`: share of the model's accuracy that is kept"]
    scores = np.mean([[s.right[name].mean() for name in ("fast", seeds.WHOLE)] for s in each], 0)
    assert kept[0] == pytest.approx(scores[0] / scores[1])
    assert kept[1] < kept[0] < kept[2]
    assert not holds
    lost, _ = found["pruned: accuracy lost to plain rounding"]
    assert lost[0] == pytest.approx(100 * (scores[1] - scores[0]))
    back, _ = found["pruned: accuracy that training for four bits brings back"]
    assert back[0] == 0
