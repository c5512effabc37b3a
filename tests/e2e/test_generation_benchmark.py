"""The benchmark of generation runs: its quick form on a cut of the real data, to the table."""

from pathlib import Path

import pytest

from quick_benchmark import ROOT, quick_form

SHARED = ROOT.parent / "shared"
NEEDED = [SHARED / "data" / "snips", SHARED / "data" / "clinc150", SHARED / "models"]


@pytest.mark.real
@pytest.mark.skipif(not all(path.is_dir() for path in NEEDED), reason="SNIPS is not here")
def test_quick_benchmark_measures_every_claim_and_writes_nothing(tmp_path: Path) -> None:
    told = quick_form("generation", "--work", str(tmp_path))
    claims = [line for line in told.splitlines() if line[:1] in "✓✗"]
    assert len(claims) > 20
    for part in ("greedy tokens equal", "teacher in the loop / cached", "score lost against",
                 "260.0000", "stories260K", "chunked KL"):  # fmt: skip
        assert any(part in claim for claim in claims), part
