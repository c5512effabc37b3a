"""Most resident memory that a process ever had, as the kernel keeps it."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_resident_bytes(process: int | None = None) -> int | None:
    """High-water mark of resident memory of a process (None: this one), in bytes.

    From /proc, because `getrusage` also counts what the parent had before it started us. None
    where the process is gone, or another process's memory cannot be read on this system.
    """
    status = Path(f"/proc/{process or 'self'}/status")
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _own_peak_bytes() if process is None else None


def _own_peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024
