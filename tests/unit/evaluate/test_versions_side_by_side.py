"""Original and versions side by side: what the charts draw is what was measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo_report import make_demo_content
from edgedistill.core.artefacts import Interval
from edgedistill.evaluate.report.blocks import Mark, Plots, Table
from edgedistill.evaluate.report.content import Footprint, Latency, ReportContent
from edgedistill.evaluate.report.html import render_html
from edgedistill.evaluate.report.markdown import render_markdown
from edgedistill.evaluate.report.side_by_side import versions_section
from edgedistill.evaluate.report.version_plots import (
    Point,
    bytes_plot,
    front_plots,
    latency_strips,
    waterfall_plot,
)
from edgedistill.pipeline.stages.variants import Variant, read_variants
from edgedistill.pipeline.versions import all_versions, passes_with_bytes, versions_of_student

STEPS = (("full precision", 8_000_000), ("tables", 4_000_000), ("weights", 2_500_000))
FULL = Variant((), 4_000_000, 0.95, 1.0, 1.0, 1.2)
HALF = Variant(
    ("a", "b"), 1_500_000, 0.94, 0.99, 0.5, 0.6, kept=True,
    retention=(0.989, 0.98, 1.0), bytes_by_pass=(2_500_000, 1_500_000),
)  # fmt: skip
LOSSY = Variant(("a",), 2_500_000, 0.90, 0.90, 0.8, 0.9, reason="costs quality")


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return make_demo_content()


def bars(svg: str) -> list[tuple[float, float]]:
    """Left edge and width of every bar, in order."""
    found = re.findall(r'<rect class="bar[^"]*" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg)
    return [(float(x), float(width)) for x, width in found]


def test_the_waterfall_goes_down_from_each_step_to_the_next() -> None:
    full, tables, weights, ships = bars(waterfall_plot(STEPS).svg)
    left, unit = full[0], full[1] / 8.0
    assert tables == pytest.approx((left + 4.0 * unit, 4.0 * unit), abs=0.2)
    assert weights == pytest.approx((left + 2.5 * unit, 1.5 * unit), abs=0.2)
    assert ships == pytest.approx((left, 2.5 * unit), abs=0.2)
    alt = waterfall_plot(STEPS).alt
    for part in ("−4.00 MB (−50%)", "−1.50 MB (−38%)", "ships: 2.50 MB, 3.2× smaller"):
        assert part in alt


def test_a_pass_that_adds_bytes_says_so() -> None:
    plot = waterfall_plot((("full precision", 1_000_000), ("guard", 1_100_000)))
    assert "+100.0 kB (+10%)" in plot.alt


def test_nothing_done_is_one_bar() -> None:
    assert len(bars(waterfall_plot(STEPS[:1]).svg)) == 1


def test_bars_of_bytes_are_as_long_as_bytes_are_many() -> None:
    first, second = bars(bytes_plot([("original", 8_000_000), ("small", 1_000_000)]).svg)
    assert first[1] == pytest.approx(8 * second[1], rel=0.01)


def test_strips_draw_fastest_and_slowest_in_their_places() -> None:
    samples = np.concatenate([np.full(5000, 1.0), [0.1, 10.0]])
    plot = latency_strips([("one", samples.tolist())])
    strokes = [float(x) for x in re.findall(r'"M([\d.]+) [\d.]+V', plot.svg)]
    assert 100 < len(strokes) <= 180
    # On a logarithmic scale 1 lies half way between 0.1 and 10.
    assert np.median(strokes) == pytest.approx((min(strokes) + max(strokes)) / 2, abs=0.2)
    assert "p50 1.00 ms" in plot.alt
    assert "5,002 requests" in plot.alt


def test_the_front_rises_through_what_nothing_cheaper_beats() -> None:
    points = [
        Point("tiny", 1_000_000, 9.0, 0.90, "front"),
        Point("worse", 2_000_000, 5.0, 0.89, "other"),
        Point("good", 4_000_000, 1.0, 0.95, "chosen"),
        Point("teacher", 90_000_000, 3.0, 0.96, "original"),
    ]
    by_size, by_time = front_plots(points, "accuracy")
    assert [by_size.alt.count(name) for name in ("tiny", "worse", "good", "teacher")] == [
        1,
        0,
        1,
        1,
    ]
    assert [by_time.alt.count(name) for name in ("tiny", "worse", "good", "teacher")] == [
        0,
        0,
        1,
        1,
    ]
    for plot in (by_size, by_time):
        assert plot.svg.count("<circle") == 4 + 4  # and their legend


def test_equal_points_and_a_clock_that_shows_nothing_still_plot() -> None:
    same = [Point("a", 10, 0.0, 0.5, "front"), Point("b", 10, 0.0, 0.5, "front")]
    assert all("NaN" not in plot.svg for plot in front_plots(same, "accuracy"))
    assert "nan" not in latency_strips([("a", [0.0, 0.0])]).svg


def test_the_section_says_what_breaks_and_what_ships(content: ReportContent) -> None:
    assert content.versions is not None
    section = versions_section(content, content.versions)
    first, last = (block for block in section.blocks if isinstance(block, Table))
    assert [row[0] for row in first.rows] == ["original (teacher)", "bundle"]
    assert first.rows[1][2] == "49×"
    cells = [cell for row in last.rows for cell in row if isinstance(cell, Mark)]
    assert sum(mark.text == "ships" for mark in cells) == 1
    assert sum(mark.text == "breaks" for mark in cells) == 8
    assert last.emphasised == {1}  # the student that ships comes first, its versions together
    assert sum(len(b.plots) for b in section.blocks if isinstance(b, Plots)) == 4
    assert r"bytes by pass: full precision 6.64 MB; int8\_tables" in render_markdown(content)


def test_without_samples_there_are_no_strips(content: ReportContent) -> None:
    assert content.shipped is not None
    assert content.shipped.teacher is not None
    bare = replace(content.shipped, teacher=replace(content.shipped.teacher, samples_ms=()))
    assert render_html(replace(content, shipped=bare)).count("<svg") == 8


def test_versions_of_a_run_are_its_variants() -> None:
    rows = versions_of_student("static", [FULL, HALF, LOSSY])
    footprint = Footprint(40_000_000, Latency(3.0, 4.0, 5.0))
    found = all_versions(rows, footprint, passes_with_bytes(FULL, HALF), original_score=0.96)
    full, half, lossy = found.rows
    assert (full.passes, full.retention, full.times_faster) == ("full precision", None, 1.0)
    assert (half.passes, half.kept, half.chosen) == ("a + b", True, True)
    assert half.retention == Interval(0.989, 0.98, 1.0)
    assert half.times_faster == 2.0
    assert [row.breaks for row in found.rows] == [False, False, True]
    assert [row.on_front for row in found.rows] == [True, True, False]
    assert (lossy.kept, lossy.retention) == (False, None)
    assert found.bytes_by_pass == (
        ("full precision", 4_000_000), ("a", 2_500_000), ("b", 1_500_000),
    )  # fmt: skip
    assert not any(row.chosen for row in versions_of_student("x", [FULL, HALF], chosen=False))


def test_variants_survive_their_file(tmp_path: Path) -> None:
    from dataclasses import asdict

    (tmp_path / "variants.json").write_text(json.dumps([asdict(FULL), asdict(HALF)]))
    assert read_variants(tmp_path) == (FULL, HALF)
