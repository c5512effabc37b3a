"""`compress`: from a fine-tuned classifier of texts or tokens to a verified bundle, without a
smaller student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedistill.core.compression import RECIPES
from edgedistill.core.errors import SpecError
from edgedistill.core.events import Listener, silent
from edgedistill.core.file_compression import FileCompression
from edgedistill.core.task_file import read_values
from edgedistill.pipeline.run import RunResult, run_task

#: Added to the name of the task: its own run keeps its folder.
SUFFIX = "-compressed"
#: Kinds of task whose models it takes.
KINDS = ("classification", "extraction")
_OF_FILE = FileCompression.model_fields.keys()


def compress_model(
    model: str,
    task: Path | str,
    *,
    recipes: Sequence[str] = (),
    search: bool = False,
    max_mb: float | None = None,
    max_p95_ms: float | None = None,
    retention: float | None = None,
    runs_dir: Path | str = Path("runs"),
    listener: Listener = silent,
) -> RunResult:
    """Compress a fine-tuned classifier or tagger for a task, and prove what is left.

    The task's `teacher` and `student` are left out of account: the model is both.

    Args:
        model: a folder's path, `hub:ORG/NAME` or `package:NAME`.
        task: the task file, whose data, boundary and requirements hold.
        recipes: instead of the task's section `compress`; of neither, every recipe is tried.
        search: whether sequences beside the recipes are tried, too (`compress: auto`).
        max_mb, max_p95_ms, retention: instead of what the task requires.

    Raises:
        EdgeDistillError: as `run_task`.
    """
    changes = compressing(
        Path(task), model, recipes=recipes, search=search, max_mb=max_mb,
        max_p95_ms=max_p95_ms, retention=retention,
    )  # fmt: skip
    return run_task(task, runs_dir=runs_dir, listener=listener, changes=changes)


def compressing(
    task: Path,
    model: str,
    *,
    recipes: Sequence[str] = (),
    search: bool = False,
    max_mb: float | None = None,
    max_p95_ms: float | None = None,
    retention: float | None = None,
) -> dict[str, Any]:
    """Sections that take the place of a task file's own; None: it is left out.

    Raises:
        SpecError: the file is no task of classification or extraction, or a recipe is unknown.
    """
    if unknown := [name for name in recipes if name not in RECIPES]:
        raise SpecError(
            f"no recipe is called {unknown[0]!r}", where="--recipe",
            fix=f"one of: {', '.join(RECIPES)}",
        )  # fmt: skip
    values = read_values(task)
    kind = values.get("kind", "classification")
    if kind not in KINDS:
        raise SpecError(
            f"a {kind} task cannot be compressed by this command yet", where=str(task),
            fix=f"use a task of kind {' or '.join(KINDS)}",
        )  # fmt: skip
    asked: dict[str, Any] = {"recipes": list(recipes)} if recipes else {}
    asked |= {"search": {}} if search else {}
    limits = {"size_mb": max_mb, "latency_p95_ms": max_p95_ms, "retention": retention}
    required = values.get("requirements") or {}
    required = required if isinstance(required, dict) else {}
    is_named = model.startswith(("hub:", "package:", "folder:"))
    name = str(values.get("name", ""))
    return {
        "name": name[: 64 - len(SUFFIX)] + SUFFIX if name else None,
        "teacher": {
            "source": model if is_named else f"folder:{Path(model).expanduser().resolve()}",
            "num_epochs": 0,
        },
        "student": None,
        "compress": _section(asked, values.get("compress") or {}),
        "requirements": required | {key: each for key, each in limits.items() if each is not None},
    }


def _section(asked: dict[str, Any], own: Any) -> Any:
    """What is asked for, or the file's own section; the runtime that the file names holds for both.
    A section that tells of the file alone says nothing of the network: all recipes are tried.

    Args:
        asked: recipes or search, of the command. own: the section, in any of its forms.
    """
    runtime = {"runtime": own["runtime"]} if isinstance(own, dict) and "runtime" in own else {}
    if asked:
        return runtime | asked
    tells_of_file_alone = isinstance(own, dict) and own and own.keys() <= _OF_FILE
    return {"recipes": list(RECIPES)} | own if tells_of_file_alone else own
