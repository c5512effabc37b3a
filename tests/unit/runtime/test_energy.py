"""Energy: counters where they can be read, else CPU time at a stated power."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgedistill.runtime.energy import PackageCounters, measure_energy


def make_zone(powercap: Path, number: str, name: str, microjoules: int, limit: int) -> Path:
    """A zone as the kernel shows it."""
    zone = powercap / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text(f"{limit}\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    return zone


def burn(seconds: float) -> None:
    """Use the CPU."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_without_counters_it_is_cpu_time_at_the_stated_power(tmp_path: Path) -> None:
    energy = measure_energy(burn, [0.004], watts=3.0, powercap=tmp_path, min_s=0.08)
    assert energy.is_estimate
    assert 4.0 <= energy.cpu_ms < 6.0
    assert energy.joules == pytest.approx(3.0 * energy.cpu_ms / 1000)
    assert "estimate" in energy.basis
    assert "3 W" in energy.basis


def test_sleeping_takes_no_cpu_and_so_next_to_no_energy(tmp_path: Path) -> None:
    energy = measure_energy(time.sleep, [0.02], powercap=tmp_path, min_s=0.1)
    assert energy.cpu_ms < 2.0


def test_a_slow_call_is_made_once(tmp_path: Path) -> None:
    calls: list[float] = []
    measure_energy(calls.append, [0.0], powercap=tmp_path, min_s=0.0)
    assert len(calls) == 1


def test_packages_are_counted_and_their_parts_are_not(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, "0", "package-0", 1000, 10_000)
    other = make_zone(tmp_path, "1", "package-1", 9990, 10_000)
    make_zone(tmp_path, "0:0", "core", 5, 10_000)

    def call(microjoules: int) -> None:
        (zone / "energy_uj").write_text(f"{1000 + microjoules}\n")
        # Over its largest value it begins again at 0: 11 more are 10,001 steps round.
        (other / "energy_uj").write_text("0\n")

    energy = measure_energy(call, [600], powercap=tmp_path, min_s=0.0)
    assert not energy.is_estimate
    assert energy.joules == pytest.approx((600 + 11) / 1e6)
    assert "RAPL" in energy.basis


def test_counters_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    zone = make_zone(tmp_path, "0", "package-0", 1, 10)
    assert PackageCounters(tmp_path)
    (zone / "energy_uj").write_text("denied")
    assert not PackageCounters(tmp_path)
