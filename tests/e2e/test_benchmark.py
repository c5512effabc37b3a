"""The benchmark runs: its quick form on a cut of the real data, from the data to the table."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "clinc150"


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="CLINC150 is not here")
def test_quick_benchmark_measures_every_claim_and_writes_nothing(tmp_path: Path) -> None:
    results = ROOT / "docs" / "results"
    before = {path: path.read_bytes() for path in results.glob("*")}
    done = subprocess.run(
        [sys.executable, "benchmarks/classification.py", "--quick", "--work", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    claims = [line for line in done.stdout.splitlines() if line[:1] in "✓✗"]
    assert len(claims) > 35
    assert any("teacher in the loop / cached" in claim for claim in claims)
    assert {path: path.read_bytes() for path in results.glob("*")} == before
