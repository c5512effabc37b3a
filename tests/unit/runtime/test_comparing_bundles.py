"""Bundles side by side: what is right, what agrees, how many times faster."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgedistill.core.errors import DataError
from edgedistill.evaluate.comparison import comparison_json, retentions
from edgedistill.evaluate.intervals import retention_interval
from edgedistill.evaluate.report.comparison_page import comparison_page, comparison_table
from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.comparing import compare, speed_up
from small_bundle import TEXTS, make_bundle, make_guard, make_manifest

ROWS = [
    {"text": "where is my parcel", "label": "track"},
    {"text": "stop it now", "label": "cancel"},
    {"text": "i want my money back", "label": "track"},
    {"text": "please cancel my order"},
]


def test_three_bundles_on_the_same_rows(bundle: Bundle, tmp_path: Path) -> None:
    manifest = make_manifest(
        name="strict",
        requirements=(
            {"requirement": "retention", "holds": False},
            {"requirement": "size", "holds": True},
        ),
    )
    strict = make_bundle(
        tmp_path / "run/bundle", manifest=manifest, guard=make_guard(threshold=-9.0)
    )
    result = compare([bundle.path, tmp_path / "run", bundle.path], ROWS, num_timed=40)
    first, second, _ = result.sides
    assert (result.num_rows, result.num_labelled, result.threads) == (4, 3, 1)
    assert first.accuracy == pytest.approx(2 / 3)
    assert second.accuracy == pytest.approx(1 / 3)
    assert (first.abstention_rate, second.abstention_rate) == (0.0, 0.5)
    assert [side.agreement for side in result.sides] == [1.0, 0.5, 1.0]
    assert [side.failed for side in result.sides] == [(), ("retention",), ()]
    assert second.path == str(strict.path)
    # A name that two have tells nobody which it is.
    assert [side.label for side in result.sides] == [str(bundle.path), "strict", str(bundle.path)]
    assert first.times_faster.value == 1.0
    assert [len(side.samples_ms) for side in result.sides] == [40, 40, 40]
    kept = retentions(result)
    assert kept[0] is None
    assert kept[1] == retention_interval([True, True, False], [False, True, False])
    assert kept[2] == retention_interval([True, True, False], [True, True, False])
    values = json.dumps(comparison_json(result), allow_nan=False)
    assert "samples_ms" not in values
    page = comparison_page(result)
    assert page.count("<svg") == 4
    assert 'class="mark bad">retention<' in page


def test_without_what_is_right_there_is_no_quality(bundle: Bundle) -> None:
    result = compare([bundle.path, bundle.path], [{"text": TEXTS[0]}], num_timed=10)
    assert result.sides[0].accuracy is None
    assert result.sides[1].agreement == 1.0
    assert retentions(result) == [None, None]
    assert comparison_page(result).count("<svg") == 2  # no charts of quality
    rows = {row[0]: row[1:] for row in comparison_table(result).rows}
    assert rows["Right"] == rows["Retention"] == ("–", "–")


def test_nothing_to_compare_on_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="no rows"):
        compare([bundle.path, bundle.path], [])


def test_right_on_no_row_keeps_nothing_of_it(bundle: Bundle) -> None:
    rows = [{"text": "stop it now", "label": "track"}]
    assert retentions(compare([bundle.path] * 2, rows, num_timed=4)) == [None, None]


def test_drift_of_the_machine_cancels_in_the_speed_up() -> None:
    rng = np.random.default_rng(0)
    # The machine slows down fourfold over the measurement, for both alike.
    drift = np.repeat(np.linspace(1, 4, 20), 100)
    first, other = (time * drift * rng.gamma(50, 1 / 50, 2000) for time in (2.0, 0.5))
    found = speed_up(first, other, [100] * 20)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 4.0 < found.high
    assert found.high - found.low < 0.4
    assert found.value == pytest.approx(4.0, rel=0.05)


def test_few_blocks_have_a_value_and_no_bounds() -> None:
    assert speed_up(np.full(10, 3.0), np.full(10, 2.0), [5, 5]).low is None
    assert speed_up(np.full(10, 3.0), np.full(10, 2.0), [5, 5]).value == 1.5
