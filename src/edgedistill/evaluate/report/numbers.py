"""Numbers as people read them, the same in every section."""

from __future__ import annotations

from edgedistill.core.artefacts import Interval

MISSING = "–"


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage."""
    return MISSING if value is None else f"{100 * value:.{digits}f}%"


def percent_interval(interval: Interval | None, digits: int = 2) -> str:
    """A share with its bounds."""
    if interval is None:
        return MISSING
    low, high = (f"{100 * bound:.{digits}f}" for bound in (interval.low, interval.high))
    return f"{percent(interval.value, digits)} ({low} to {high})"


def points_interval(interval: Interval | None) -> str:
    """A difference of shares in percentage points, signed, with its bounds."""
    if interval is None:
        return MISSING
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"


def milliseconds(value: float | None) -> str:
    """Milliseconds with three significant digits."""
    if value is None:
        return MISSING
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} ms"


def data_size(num_bytes: float | None) -> str:
    """Bytes in the decimal unit that fits."""
    if num_bytes is None:
        return MISSING
    for limit, unit, digits in ((1e6, "MB", 2), (1e3, "kB", 1)):
        if num_bytes >= limit:
            return f"{num_bytes / limit:,.{digits}f} {unit}"
    return f"{num_bytes:.0f} B"


def ratio(larger: float | None, smaller: float | None) -> str:
    """How many times `smaller` fits into `larger`."""
    if larger is None or smaller is None or smaller <= 0:
        return MISSING
    times = larger / smaller
    return f"{times:.0f}×" if times >= 10 else f"{times:.1f}×"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def decimal(value: float | None, digits: int = 4) -> str:
    """A plain number."""
    return MISSING if value is None else f"{value:.{digits}f}"
