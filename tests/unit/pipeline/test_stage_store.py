"""Stage results: reused by fingerprint, made again where something changed, continued."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import edgedistill
from edgedistill.core.errors import StorageError
from edgedistill.core.events import Event, silent
from edgedistill.core.files import read_json
from edgedistill.pipeline.store import RECORD, StageResult, Store, code_version


class Work:
    """A stage's computation that counts how often it is done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        self.times += 1
        (folder / "value.txt").write_text(f"made {self.times}")


def stage(
    store: Store, compute: Callable[[Path], None], inputs: dict[str, Any] | None = None
) -> StageResult:
    return store.stage("sum", inputs or {"a": 1}, compute, rooms=("tasks",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", silent)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A source tree in place of the package's own."""
    base = tmp_path / "edgedistill"
    (base / "room").mkdir(parents=True)
    (base / "__init__.py").write_text("")
    (base / "room/method.py").write_text('"""Docs."""\n\n\ndef f(x):\n    return x + 1\n')
    monkeypatch.setattr(edgedistill, "__file__", str(base / "__init__.py"))
    code_version.cache_clear()
    yield base
    code_version.cache_clear()


def fresh_version(room: str = "room") -> str:
    code_version.cache_clear()
    return code_version(room)


def test_a_result_that_stands_is_reused(tmp_path: Path) -> None:
    events: list[Event] = []
    work = Work()
    first = stage(Store(tmp_path, events.append), work)
    again = stage(Store(tmp_path, events.append), work)
    assert work.times == 1
    assert (first.reused, again.reused) == (False, True)
    assert again.folder == first.folder
    assert again.fingerprint == first.fingerprint
    assert (again.folder / "value.txt").read_text() == "made 1"
    assert [event.kind for event in events] == ["started", "finished", "reused"]
    assert sorted(p.name for p in first.folder.iterdir()) == [RECORD, "value.txt"]


def test_results_are_counted_in_order(store: Store) -> None:
    stage(store, Work())
    stage(store, Work())
    assert [result.reused for result in store.results] == [False, True]


@pytest.mark.parametrize("inputs", [{"a": 2}, {"a": 1, "b": None}, {"b": 1}, {"a": "1"}])
def test_other_inputs_are_another_result(store: Store, inputs: dict[str, Any]) -> None:
    work = Work()
    first, other = stage(store, work), stage(store, work, inputs)
    assert work.times == 2
    assert first.fingerprint != other.fingerprint
    assert (first.folder / "value.txt").read_text() == "made 1"


def test_another_name_is_another_result(store: Store) -> None:
    one = store.stage("one", {}, Work(), rooms=())
    other = store.stage("other", {}, Work(), rooms=())
    assert one.fingerprint != other.fingerprint


def test_another_code_is_another_result(store: Store, source: Path) -> None:
    work = Work()
    rooms = ("room",)
    first = store.stage("sum", {}, work, rooms=rooms)
    (source / "room/method.py").write_text("def f(x):\n    return x + 2\n")
    code_version.cache_clear()
    second = store.stage("sum", {}, work, rooms=rooms)
    assert work.times == 2
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    "content",
    [
        "def f(x):\n    return x + 2\n",
        "def g(x):\n    return x + 1\n",
        "def f(x, y=0):\n    return x + 1\n",
        "LIMIT = 3\ndef f(x):\n    return x + 1\n",
    ],
)
def test_code_that_does_something_else_has_another_version(source: Path, content: str) -> None:
    before = fresh_version()
    (source / "room/method.py").write_text(content)
    assert fresh_version() != before


@pytest.mark.parametrize(
    "content",
    [
        "def f(x):\n    return x + 1\n",
        '"""Other docs."""\n\ndef f(x):\n    """Adds one."""\n    return (x + 1)  # why\n',
    ],
)
def test_comments_and_docstrings_do_not_count(source: Path, content: str) -> None:
    before = fresh_version()
    (source / "room/method.py").write_text(content)
    assert fresh_version() == before


def test_a_new_file_and_a_new_name_count(source: Path) -> None:
    versions = [fresh_version()]
    (source / "room/other.py").write_text("")
    versions.append(fresh_version())
    (source / "room/other.py").rename(source / "room/another.py")
    versions.append(fresh_version())
    assert len(set(versions)) == 3


def test_a_room_may_be_one_module_and_must_exist(source: Path) -> None:
    module = fresh_version("room/method")
    (source / "room/other.py").write_text("x = 1\n")
    assert fresh_version("room/method") == module
    assert fresh_version("room") != module
    with pytest.raises(FileNotFoundError):
        fresh_version("no_such_room")


def test_what_failed_leaves_no_result_and_goes_on_where_it_was(store: Store) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        stage(store, fail)
    assert [p.name for p in store.folder.iterdir() if (p / RECORD).exists()] == []

    def finish(folder: Path) -> None:
        assert (folder / "half.txt").read_text() == "half"
        (folder / "value.txt").write_text("whole")

    result = stage(store, finish)
    assert not result.reused
    assert (result.folder / "value.txt").read_text() == "whole"
    assert [p.name for p in store.folder.iterdir()] == [result.folder.name]


def test_seconds_of_all_attempts_are_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 100.0, 103.0])
    monkeypatch.setattr("edgedistill.pipeline.store.time.monotonic", lambda: next(clock))

    def fail(folder: Path) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        stage(store, fail)
    assert stage(store, Work()).seconds == 8.0


def test_killed_in_the_middle_it_goes_on(store: Store) -> None:
    code = f"""
import os, signal
from pathlib import Path
from edgedistill.core.events import silent
from edgedistill.pipeline.store import Store
def compute(folder):
    (folder / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Store(Path({str(store.folder)!r}), silent).stage("sum", {{"a": 1}}, compute, rooms=("tasks",))
"""
    source = str(Path(edgedistill.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": source}
    )
    assert done.returncode == -signal.SIGKILL
    found: list[bool] = []
    result = stage(store, lambda folder: found.append((folder / "half.txt").exists()))
    assert found == [True]
    assert read_json(result.folder / RECORD)["inputs"] == {"a": 1}


def test_a_stage_that_another_run_makes_is_waited_for(store: Store) -> None:
    begun, told, work = threading.Event(), threading.Event(), Work()

    def slow(folder: Path) -> None:
        begun.set()
        assert told.wait(30)
        work(folder)

    other_work, notes = Work(), list[Event]()

    def note(event: Event) -> None:
        notes.append(event)
        told.set()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(stage, store, slow)
        assert begun.wait(30)
        second = stage(Store(store.folder, note), other_work)
    assert (work.times, other_work.times) == (1, 0)
    assert second.folder == first.result().folder
    assert (first.result().reused, second.reused) == (False, True)
    assert [(e.kind, e.message) for e in notes] == [
        ("note", "waits for another run to make it"), ("reused", "stands as it was"),
    ]  # fmt: skip
    assert not list(store.folder.glob("*.partial"))


def test_a_stage_whose_maker_fails_is_made_by_the_run_that_waited(store: Store) -> None:
    begun, told, work = threading.Event(), threading.Event(), Work()

    def fail(folder: Path) -> None:
        begun.set()
        assert told.wait(30)
        raise ValueError("no")

    waiting = Store(store.folder, lambda _: told.set())
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(stage, store, fail)
        assert begun.wait(30)
        second = stage(waiting, work)
    assert isinstance(first.exception(), ValueError)
    assert (work.times, second.reused) == (1, False)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError("200000 requested and 25584 written"),  # numpy
        RuntimeError("I/O error: No space left on device (os error 28)"),  # safetensors
        shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]),
        PermissionError(13, "Permission denied"),
        OSError(27, "File too large"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_a_disk_that_refuses_is_a_storage_error(store: Store, error: Exception) -> None:
    def refuse(folder: Path) -> None:
        raise error

    with pytest.raises(StorageError) as caught:
        stage(store, refuse)
    assert caught.value.exit_code == 8
    assert str(store.folder) in str(caught.value)
    assert caught.value.__cause__ is error


def test_other_errors_stay_what_they_are(store: Store) -> None:
    def fail(folder: Path) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        stage(store, fail)
