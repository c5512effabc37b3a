"""The benchmark runs: its quick form on a cut of the real data, from the data to the table."""

from pathlib import Path

import pytest

from quick_benchmark import ROOT, quick_form

DATA = ROOT.parent / "shared" / "data" / "clinc150"


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="CLINC150 is not here")
def test_quick_benchmark_measures_every_claim_and_writes_nothing(tmp_path: Path) -> None:
    told = quick_form("classification", "--work", str(tmp_path))
    claims = [line for line in told.splitlines() if line[:1] in "✓✗"]
    assert len(claims) > 35
    assert any("teacher in the loop / cached" in claim for claim in claims)
