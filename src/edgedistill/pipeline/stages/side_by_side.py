"""Networks that answer the same texts at a time, each on a core of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgedistill.runtime.networks import Network

Said = TypeVar("Said")


def side_by_side(
    read: Callable[[Network], Said], networks: Collection[Network], *, threads: int
) -> list[Said]:
    """What `read` makes of each network, in their order; the same as one after the other, since
    each runs as it always does. Not for timing.

    Args:
        threads: that each network takes.
    """
    with ThreadPoolExecutor(max(1, _num_cores() // threads)) as pool:
        return list(pool.map(read, networks))


def _num_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
