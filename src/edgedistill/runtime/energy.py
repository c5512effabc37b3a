"""Energy of one answer: counted by the processor where it lets us, else estimated by CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
DEFAULT_WATTS = 5.0
"""Taken for what one busy core draws, where nothing is counted and nobody says otherwise."""
MEASURING_S = 1.0
"""Counters are renewed about every millisecond; a second makes that a thousandth."""


@dataclass(frozen=True)
class Energy:
    """Of one answer, one text at a time.

    `joules`: energy. `cpu_ms`: CPU time of all threads. `is_estimate`: it was not counted but is
    CPU time times a stated power. `basis`: how it came about, for people.
    """

    joules: float
    cpu_ms: float
    is_estimate: bool
    basis: str


class PackageCounters:
    """The energy counters of the processor packages (RAPL: Intel's and AMD's running average power
    limit).

    Args:
        powercap: where the kernel shows them.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones: list[tuple[Path, int]] = []
        for zone in sorted(powercap.glob("intel-rapl:*")):
            try:
                # Zones within a package (cores, memory) count what the package counts too.
                if (zone / "name").read_text().startswith("package"):
                    int((zone / "energy_uj").read_text())
                    limit = int((zone / "max_energy_range_uj").read_text())
                    self._zones.append((zone / "energy_uj", limit))
            except (OSError, ValueError):
                continue

    def __bool__(self) -> bool:
        """Whether there is a counter that this user may read."""
        return bool(self._zones)

    def read(self) -> list[int]:
        """Microjoules of every package since some moment."""
        return [int(file.read_text()) for file, _ in self._zones]

    def joules(self, before: Sequence[int], after: Sequence[int]) -> float:
        """Energy between two readings less than one round of the counters apart."""
        spent = 0
        for (_, limit), first, last in zip(self._zones, before, after, strict=True):
            # The counter begins again at 0 after its largest value.
            spent += last - first if last >= first else last + limit + 1 - first
        return spent / 1e6


def measure_energy(
    call: Callable[[Any], object],
    items: Sequence[Any],
    *,
    watts: float = DEFAULT_WATTS,
    powercap: Path = POWERCAP,
    min_s: float = MEASURING_S,
) -> Energy:
    """What one call takes, over as many as `min_s` seconds hold, at least one.

    Args:
        call: one answer. items: what is asked, in turn.
        watts: power of one busy core, for the estimate where no counter can be read.
    """
    counters = PackageCounters(powercap)
    num_calls, endless = 0, cycle(items)
    before, begun, cpu = counters.read(), time.monotonic(), time.process_time()
    while num_calls == 0 or time.monotonic() - begun < min_s:
        call(next(endless))
        num_calls += 1
    cpu_s, spent = time.process_time() - cpu, counters.joules(before, counters.read())
    if counters:
        basis = "counted by the processor (RAPL), whole package: idle and other processes included"
        return Energy(spent / num_calls, 1000.0 * cpu_s / num_calls, False, basis)
    basis = f"estimate: {1000.0 * cpu_s / num_calls:.3g} ms of CPU at {watts:g} W a busy core"
    return Energy(watts * cpu_s / num_calls, 1000.0 * cpu_s / num_calls, True, basis)
