"""EdgeDistill: the smallest model that provably meets the requirements of a narrow language task.

`load` runs a bundle (numpy, tokenizers and onnxruntime); `run` makes one (extra `train`).
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from edgedistill.runtime.runner import Runner

__all__ = ["__version__", "load", "run"]


def load(path: str | Path, *, threads: int | None = None) -> Runner:
    """Open a bundle (folder or `.edb` archive), check every hash, and make it ready to predict.

    Args:
        path: the bundle.
        threads: threads of the runtime; None takes the number stated in the bundle.

    Raises:
        BundleError: damaged, incomplete, or of a newer schema.
    """
    from edgedistill.runtime.loading import load as load_bundle

    return load_bundle(path, threads=threads)


def run(task_file: str | Path, **options: Any) -> Any:
    """Carry out a task file from data to a verified bundle (see `edgedistill.pipeline.run`).

    Raises:
        MissingExtra: PyTorch is not installed.
    """
    from importlib.util import find_spec

    from edgedistill.core.errors import MissingExtra

    if find_spec("torch") is None:
        raise MissingExtra("making a bundle", "train")
    from importlib import import_module

    return import_module("edgedistill.pipeline.run").run_task(task_file, **options)


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("edgedistill")
    except PackageNotFoundError:  # a source tree on PYTHONPATH
        return "0+source"
