"""Results of stages, kept by fingerprint: what stands is reused, what was cut off goes on."""

from __future__ import annotations

import ast
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import edgedistill
from edgedistill.core.errors import RunLocked, StorageError
from edgedistill.core.events import Event, Listener
from edgedistill.core.files import exclusive, fingerprint, read_json, storage_errors, write_json

RECORD = "stage.json"
#: Seconds between two looks at a stage that another run is making.
POLL_S = 0.5


@dataclass(frozen=True)
class StageResult:
    """A finished stage: its folder, its fingerprint, and what it took."""

    name: str
    folder: Path
    fingerprint: str
    seconds: float
    reused: bool


class Store:
    """A folder of stage results, shared by all runs beside it.

    A stage's fingerprint is that of its name, of the settings and inputs it was given, and of
    the source code of the rooms it runs. A stage that is being computed lives in a folder that
    ends in `.partial`; it gets its final name in one step when it is whole.
    """

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.folder = folder
        self.listener = listener
        self.results: list[StageResult] = []

    def stage(
        self,
        name: str,
        inputs: Mapping[str, Any],
        compute: Callable[[Path], None],
        *,
        rooms: tuple[str, ...],
    ) -> StageResult:
        """The result of a stage, computed now or found.

        Args:
            inputs: JSON values that the result depends on, fingerprints of earlier stages among
                them.
            compute: writes the result into the folder it is given; may find there what an
                earlier, killed attempt left.
            rooms: packages of edgedistill whose code the result depends on.
        """
        key, folder = self._place(name, inputs, rooms)
        stands = (folder / RECORD).exists()
        reused = stands or not self._compute(name, key, folder, inputs, compute)
        if reused:
            self.listener(Event(name, "reused", "stands as it was"))
        seconds = float(read_json(folder / RECORD)["seconds"])
        result = StageResult(name, folder, key, seconds, reused)
        self.results.append(result)
        return result

    def holds(self, name: str, inputs: Mapping[str, Any], *, rooms: tuple[str, ...]) -> bool:
        """Whether `stage` would find its result."""
        return (self._place(name, inputs, rooms)[1] / RECORD).exists()

    def _place(
        self, name: str, inputs: Mapping[str, Any], rooms: tuple[str, ...]
    ) -> tuple[str, Path]:
        """(fingerprint, folder) of a stage's result."""
        code = {room: code_version(room) for room in rooms}
        key = fingerprint({"stage": name, "inputs": inputs, "code": code})
        return key, self.folder / f"{name}-{key[:16]}"

    def _compute(
        self,
        name: str,
        key: str,
        folder: Path,
        inputs: Mapping[str, Any],
        compute: Callable[[Path], None],
    ) -> bool:
        """Compute the stage; False where another run did while this one waited for it."""
        partial = folder.with_name(folder.name + ".partial")
        with storage_errors(partial):
            partial.mkdir(parents=True, exist_ok=True)
        with self._alone(name, partial):
            if (folder / RECORD).exists():
                shutil.rmtree(partial, ignore_errors=True)
                return False
            self.listener(Event(name, "started"))
            started = time.monotonic()
            spent = partial / "seconds.json"
            before = float(read_json(spent)) if spent.exists() else 0.0
            try:
                with storage_errors(partial):
                    compute(partial)
            finally:
                seconds = before + time.monotonic() - started
                # Where even this finds no room, the error under way tells more.
                with suppress(StorageError):
                    write_json(spent, seconds)
            write_json(
                partial / RECORD, {"name": name, "fingerprint": key, "seconds": seconds,
                                   "inputs": inputs},
            )  # fmt: skip
            spent.unlink(missing_ok=True)
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
        (folder / ".lock").unlink(missing_ok=True)
        self.listener(Event(name, "finished", f"{seconds:.1f} s"))
        return True

    @contextmanager
    def _alone(self, name: str, partial: Path) -> Iterator[None]:
        """Hold a stage's folder; where another run holds it, wait: two runs share what they can."""
        told = False
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(exclusive(partial))
                    break
                except RunLocked:
                    if not told:
                        self.listener(Event(name, "note", "waits for another run to make it"))
                    told = True
                    time.sleep(POLL_S)
            yield


@cache
def code_version(room: str) -> str:
    """Digest of the code of a package of edgedistill (`train`, `models/students`, …).

    Comments, docstrings and layout do not count: a better sentence must not cost an hour.
    """
    base = Path(edgedistill.__file__).parent
    target = base / room
    files = sorted(target.rglob("*.py")) if target.is_dir() else [target.with_suffix(".py")]
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(base)).encode() + b"\0" + _code_of(file))
    return digest.hexdigest()[:16]


def _code_of(file: Path) -> bytes:
    """The syntax tree of a file without its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if hasattr(node, "body") and isinstance(node.body, list):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return ast.dump(tree).encode()


def _is_text(node: ast.AST) -> bool:
    """A string that stands alone: a docstring, or the description of a field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
