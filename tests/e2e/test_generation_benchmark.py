"""The benchmark of generation runs: its quick form on a cut of the real data, to the table."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
NEEDED = [SHARED / "data" / "snips", SHARED / "data" / "clinc150", SHARED / "models"]


@pytest.mark.real
@pytest.mark.skipif(not all(path.is_dir() for path in NEEDED), reason="SNIPS is not here")
def test_quick_benchmark_measures_every_claim_and_writes_nothing(tmp_path: Path) -> None:
    results = ROOT / "docs" / "results"
    before = {path: path.read_bytes() for path in results.glob("*")}
    done = subprocess.run(
        [sys.executable, "benchmarks/generation.py", "--quick", "--work", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    claims = [line for line in done.stdout.splitlines() if line[:1] in "✓✗"]
    assert len(claims) > 20
    for part in ("greedy tokens equal", "teacher in the loop / cached", "score lost against",
                 "260.0000", "stories260K", "chunked KL"):  # fmt: skip
        assert any(part in claim for claim in claims), part
    assert {path: path.read_bytes() for path in results.glob("*")} == before
