"""What a task's runtime needs on this machine, refused before any work where it is missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgedistill.core.errors import MissingExtra
from edgedistill.core.task_file import place_of

#: Packages that write and run files for LiteRT.
LITERT_PACKAGES = ("ai_edge_litert", "ai_edge_quantizer", "litert_torch")


def has_litert() -> bool:
    """Whether files for LiteRT can be made and run here."""
    return all(find_spec(name) is not None for name in LITERT_PACKAGES)


def require_runtime(spec: Any, path: Path) -> None:
    """Refuse a runtime that is not installed; one of several to try is left out instead.

    Args:
        spec: the task. path: its file.

    Raises:
        MissingExtra: with the line that asks for it.
    """
    compress = getattr(spec, "compress", None)
    if compress is not None and compress.runtime == "litert" and not has_litert():
        where = place_of(path, "compress", "runtime")
        raise MissingExtra("compress.runtime: litert", "litert-export", where=where)
