"""What goes wrong with a user's files and disk: a clear message, an exit code, nothing lost."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import edgedistill
import small_task
from edgedistill.cli.app import main
from edgedistill.core.files import exclusive
from edgedistill.runtime.manifest import MANIFEST, MANIFEST_DIGEST
from small_task import FinishedRun


class Told(NamedTuple):
    """How a command ended, and what it printed."""

    code: object
    out: str
    err: str


Command = Callable[..., Told]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `edgedistill ARGUMENTS…` by its entry point."""

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["edgedistill", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Told(caught.value.code, printed.out, printed.err)

    return call


@pytest.fixture
def task(tmp_path: Path, teacher_folder: Path) -> Path:
    """A valid task whose files a test may damage."""
    return small_task.write_task(tmp_path / "task", teacher_folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder; locks are not content."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def change_task(task: Path, **sections: Any) -> None:
    import yaml

    spec = yaml.safe_load(task.read_text())
    task.write_text(yaml.safe_dump(spec | sections))


# --- data -----------------------------------------------------------------------------------


def empty(task: Path) -> None:
    (task.parent / "train.jsonl").write_bytes(b"")


def one_class(task: Path) -> None:
    rows = [row | {"label": "order"} for row in small_task.rows(5, 1)]
    small_task.write_rows(task.parent / "train.jsonl", rows)


def strange_label(task: Path) -> None:
    rows = [*small_task.rows(5, 3), {"text": "send it to the shop", "label": "oder"}]
    small_task.write_rows(task.parent / "test.jsonl", rows)


def long_line(task: Path) -> None:
    with (task.parent / "train.jsonl").open("ab") as stream:
        stream.write(b'{"text": "' + b"x" * 10_000_000 + b'", "label": "order"}\n')


def invalid_utf8(task: Path) -> None:
    with (task.parent / "validation.jsonl").open("ab") as stream:
        stream.write(b'{"text": "caf\xe9 order", "label": "order"}\n')


def duplicate_ids(task: Path) -> None:
    data = {"id_column": "id"}
    for split in ("train", "validation", "test"):
        rows = [
            row | {"id": f"{split}-{i}"} for i, row in enumerate(small_task.rows(10, len(split)))
        ]
        rows[7]["id"] = rows[4]["id"]
        small_task.write_rows(task.parent / f"{split}.jsonl", rows)
    change_task(task, data=data | {"files": {"train": "train.jsonl"}})


DATA_FAULTS: dict[Callable[[Path], None], tuple[str, ...]] = {
    empty: ("train.jsonl", "holds no rows"),
    one_class: ("all 15 training rows have the label 'order'", "at least two labels"),
    strange_label: ("'oder' in 1 row(s): test test.jsonl:16", "meant to be 'order'?"),
    long_line: ("train.jsonl:121", "quarantine"),
    invalid_utf8: ("validation.jsonl:61", "UTF-8", "quarantine"),
    duplicate_ids: ("train.jsonl:8", "train-4"),
}


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize("damage", DATA_FAULTS, ids=lambda damage: damage.__name__)
def test_a_fault_in_the_data_is_told_by_its_place(
    command: Command, task: Path, tmp_path: Path, verb: str, damage: Callable[[Path], None]
) -> None:
    damage(task)
    before = contents(task.parent)
    runs = ["--runs-dir", tmp_path / "runs"] if verb == "run" else []
    told = command(verb, task, *runs)
    assert told.code == 3, told
    for part in DATA_FAULTS[damage]:
        assert part in told.err
    assert len(told.err) < 4000
    assert contents(task.parent) == before
    assert not list(tmp_path.glob("runs/store/*/stage.json"))


def test_what_was_mended_is_taken_up_again(command: Command, task: Path) -> None:
    whole = (task.parent / "train.jsonl").read_bytes()
    invalid_utf8(task)
    assert command("check", task).code == 3
    (task.parent / "validation.jsonl").write_bytes(whole)
    (task.parent / "train.jsonl").write_bytes(b"")
    assert command("check", task).code == 3
    (task.parent / "train.jsonl").write_bytes(whole)
    told = command("check", task)
    assert told.code == 0, told
    assert "a valid classification task" in told.out


def test_a_quarantine_goes_on_without_the_rows_and_says_how_many(
    command: Command, task: Path
) -> None:
    invalid_utf8(task)
    long_line(task)
    data = {"files": {s: f"{s}.jsonl" for s in ("train", "validation", "test")}}
    change_task(task, data=data | {"on_malformed": "quarantine"})
    told = command("check", task)
    assert told.code == 0, told
    assert "Malformed rows set aside: 2." in told.out


# --- teacher --------------------------------------------------------------------------------


@pytest.fixture
def own_teacher(task: Path, teacher_folder: Path) -> Path:
    """The task's own copy of the teacher."""
    folder = Path(shutil.copytree(teacher_folder, task.parent / "model"))
    change_task(task, teacher={"source": "folder:model"})
    return folder


def test_a_teacher_without_tokenizer(command: Command, task: Path, own_teacher: Path) -> None:
    (own_teacher / "tokenizer.json").unlink()
    told = command("check", task)
    assert told.code == 4
    assert "no tokenizer.json in the model folder" in told.err
    assert str(own_teacher) in told.err


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_checkpoint_is_refused_and_never_run(
    command: Command, task: Path, own_teacher: Path, tmp_path: Path, name: str
) -> None:
    trap = tmp_path / "the pickle was run"
    (own_teacher / "model.safetensors").unlink()
    code = f"import pathlib; pathlib.Path({str(trap)!r}).touch()".encode()
    (own_teacher / name).write_bytes(b"cbuiltins\nexec\n(V" + code + b"\ntR.")
    told = command("run", task, "--runs-dir", tmp_path / "runs")
    assert told.code == 4, told
    assert "pickle" in told.err or "cannot be loaded" in told.err
    assert not trap.exists()
    # Only now: the trap works.
    __import__("pickle").loads((own_teacher / name).read_bytes())
    assert trap.exists()


# --- disk and locks ---------------------------------------------------------------------------


def without_override() -> None:
    """In a child: root, too, is bound by the modes of files from here on."""
    drop_from_bounding_set, override, search = 24, 1, 2
    for capability in (override, search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


def in_process(*arguments: object, limits: Callable[[], None] | None = None) -> Told:
    """The command in a process of its own, under limits."""
    done = subprocess.run(
        [sys.executable, "-m", "edgedistill.cli.app", *map(str, arguments)],
        capture_output=True, text=True, check=False, preexec_fn=limits, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(edgedistill.__file__).parents[1])},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return Told(done.returncode, done.stdout, done.stderr)


def test_too_little_room_is_told_before_anything_is_begun(
    command: Command, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 9))
    told = command("run", task, "--runs-dir", tmp_path / "runs")
    assert told.code == 8
    assert "MB are needed, 0 MB are free" in told.err
    assert not (tmp_path / "runs/store").exists()


def test_a_file_that_may_not_grow_stops_the_run_and_what_stands_is_kept(
    task: Path, tmp_path: Path
) -> None:
    import resource

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    runs = tmp_path / "runs"
    told = in_process("run", task, "--runs-dir", runs, limits=small_files)
    assert told.code == 8, told
    assert "larger than this system allows" in told.err
    assert str(runs) in told.err
    stands = {p.parent.name for p in runs.glob("store/*/stage.json")}
    assert {name.split("-")[0] for name in stands} == {"data"}
    assert "stopped:" in (runs / "small/log.jsonl").read_text()


@pytest.mark.real
def test_a_disk_that_fills_at_any_moment_stops_the_run_and_loses_nothing(
    tmp_path: Path, teacher_folder: Path
) -> None:
    tool = shutil.which("unshare")
    if not tool or subprocess.run([tool, "--mount", "true"], check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    teacher = {"source": f"folder:{teacher_folder}", "num_epochs": 3, "learning_rate": 0.003}
    task = small_task.write_task(tmp_path / "task", teacher_folder, teacher=teacher)
    (tmp_path / "disk").mkdir()
    driver = Path(__file__).with_name("disk_that_fills.py")
    done = subprocess.run(
        [tool, "--mount", sys.executable, driver, task, tmp_path / "disk"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(edgedistill.__file__).parents[1])},
    )  # fmt: skip
    *filled, last = map(json.loads, done.stdout.splitlines())
    assert len(filled) > 8
    for attempt in filled:
        assert attempt["filled"], attempt
        assert attempt["ended"] == "StorageError", attempt
        assert "no room left on the disk" in attempt["told"]
    # What was whole before the disk was full stays whole: each attempt begins further on.
    reused = [len(attempt["reused"]) for attempt in (*filled, last)]
    assert reused == sorted(reused)
    assert last["ended"] == "finished"
    assert last["reused"][-1] == "verification"


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_may_not_be_written(
    finished_run: FinishedRun, tmp_path: Path, is_there: bool
) -> None:
    runs = tmp_path / "runs"
    if is_there:
        shutil.copytree(finished_run.runs_dir, runs)
    else:
        runs.mkdir()
    before = contents(runs)
    for path in (runs, *runs.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        told = in_process("run", finished_run.task, "--runs-dir", runs, limits=without_override)
    finally:
        for path in (runs, *runs.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
    assert told.code == 8, told
    assert "cannot write here" in told.err
    assert contents(runs) == before


@pytest.mark.parametrize("place", ["runs", "runs/small", "runs/store"])
def test_a_file_in_place_of_a_folder(
    command: Command, task: Path, tmp_path: Path, place: str
) -> None:
    blocked = tmp_path / place
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("mine")
    told = command("run", task, "--runs-dir", tmp_path / "runs")
    assert told.code == 8, told
    assert "a file stands where a folder is needed" in told.err
    assert blocked.read_text() == "mine"


def test_two_runs_of_one_folder(command: Command, finished_run: FinishedRun) -> None:
    before = contents(finished_run.folder)
    with exclusive(finished_run.folder):
        told = command("run", finished_run.task, "--runs-dir", finished_run.runs_dir)
    assert told.code == 7
    assert "another run is working in this folder" in told.err
    assert contents(finished_run.folder) == before


# --- bundles ----------------------------------------------------------------------------------


@pytest.fixture
def bundle(finished_run: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the run's bundle that a test may damage."""
    return Path(shutil.copytree(finished_run.folder / "bundle", tmp_path / "bundle"))


@pytest.mark.parametrize("verb", ["predict", "verify"])
def test_one_changed_byte_of_any_file(command: Command, bundle: Path, verb: str) -> None:
    texts = ["where is my parcel"] if verb == "predict" else []
    files = sorted(bundle.iterdir())
    assert len(files) >= 7
    for file in files:
        whole = file.read_bytes()
        place = len(whole) // 3
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        told = command(verb, bundle, *texts)
        assert told.code == 6, file
        assert "damaged" in told.err
        assert told.out == ""
        file.write_bytes(whole)
    assert command(verb, bundle, *texts).code == 0


def test_one_changed_byte_of_an_archive(
    command: Command, finished_run: FinishedRun, tmp_path: Path
) -> None:
    whole = (finished_run.folder / "bundle.edb").read_bytes()
    archive = tmp_path / "bundle.edb"
    archive.write_bytes(whole[:5000] + bytes([whole[5000] ^ 128]) + whole[5001:])
    told = command("verify", archive)
    assert told.code == 6
    assert "damaged" in told.err
    archive.write_bytes(whole)
    assert command("verify", archive).code == 0


def test_a_bundle_of_a_newer_schema(command: Command, bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_bytes()) | {"schema_version": 2, "news": []}
    content = json.dumps(manifest).encode()
    (bundle / MANIFEST).write_bytes(content)
    (bundle / MANIFEST_DIGEST).write_text(hashlib.sha256(content).hexdigest() + "\n")
    before = contents(bundle)
    for verb in ("predict", "verify", "bench"):
        told = command(verb, bundle, *(["stop it now"] if verb == "predict" else []))
        assert told.code == 6
        assert "schema 2" in told.err
        assert "upgrade" in told.err
    assert contents(bundle) == before
