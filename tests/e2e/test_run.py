"""Task file → verified bundle, through the command line and Python, again and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgedistill
import small_task
from edgedistill.core.errors import RunLocked, StorageError
from edgedistill.core.files import exclusive
from edgedistill.pipeline.run import run_task
from small_task import FinishedRun

COMMAND = [sys.executable, "-m", "edgedistill.cli.app"]


@pytest.fixture(scope="module")
def task(finished_run: FinishedRun) -> Path:
    return finished_run.task


@pytest.fixture(scope="module")
def finished(finished_run: FinishedRun) -> Path:
    """The folder of a finished run."""
    return finished_run.folder


def test_bundle_answers_and_abstains(finished: Path) -> None:
    classifier = edgedistill.load(finished / "bundle")
    answers = classifier.predict(["where is my parcel", "", "x" * 2000])
    assert answers[0].label == "order" or answers[0].abstained
    assert [a.reason for a in answers[1:]] == ["empty", "too_long"]
    archive = edgedistill.load(finished / "bundle.edb")
    assert [a.as_json() for a in archive.predict(["stop it now"])] == [
        a.as_json() for a in classifier.predict(["stop it now"])
    ]


def test_report_tells_everything_that_was_asked(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert [hop["name"] for hop in report["ledger"]] == [
        "teacher", "student", "exported", "compressed", "run from the bundle",
    ]  # fmt: skip
    assert {m["role"] for m in report["quality"]["models"]} == {
        "teacher", "shipped", "undistilled", "linear",
    }  # fmt: skip
    assert report["boundary"]["groups"]
    assert report["passes"]
    page = (finished / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page


def test_second_run_reuses_every_stage(task: Path, finished: Path) -> None:
    before = {p: p.read_bytes() for p in (finished / "bundle").iterdir()}
    result = run_task(task, runs_dir=finished.parent)
    assert result.num_reused == len(result.stages) > 5
    assert {p: p.read_bytes() for p in (finished / "bundle").iterdir()} == before


def test_killed_run_goes_on_where_it_stopped(tmp_path: Path, teacher_folder: Path) -> None:
    task = small_task.write_task(tmp_path, teacher_folder, teacher={
        "source": f"folder:{teacher_folder}", "num_epochs": 40, "learning_rate": 0.003,
        "batch_size": 4, "patience": 40,
    })  # fmt: skip
    runs = tmp_path / "runs"
    arguments = [*COMMAND, "run", str(task), "--runs-dir", str(runs), "--log-json"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["stage"] == "teacher" and event["message"].startswith("epoch 3 of"):
                break
        os.kill(process.pid, signal.SIGKILL)
    notes: list[str] = []
    result = run_task(task, runs_dir=runs, listener=lambda e: notes.append(e.message))
    assert any(n.startswith("continues after epoch") for n in notes)
    assert result.bundle.is_dir()


def test_two_runs_of_one_folder(task: Path, finished: Path) -> None:
    with exclusive(finished), pytest.raises(RunLocked, match="another run"):
        run_task(task, runs_dir=finished.parent)


def test_read_only_folder(task: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises((StorageError, NotADirectoryError)):
        run_task(task, runs_dir=blocked / "runs")


def test_commands_of_the_issue(task: Path, finished: Path) -> None:
    def call(*arguments: str, code: int = 0) -> str:
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    bundle = str(finished / "bundle")
    assert "Forecast" in call("check", str(task))
    assert "order" in call("predict", bundle, "where is my order", "--json")
    assert "p95" in call("bench", bundle)
    call("verify", bundle)
    call("compare", bundle, str(finished / "bundle.edb"), "--on", str(task.parent / "test.jsonl"))
    assert "SHIP" in call("report", str(finished))
    assert "static" in call("families")
    json.loads(call("schema"))


def test_help_and_failing_check_are_quick(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("name: x\nnmae: y\n")
    for arguments, code in ((["--help"], 0), (["check", str(tmp_path / "task.yaml")], 2)):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            done = subprocess.run([*COMMAND, *arguments], capture_output=True, check=False)
            times.append(time.perf_counter() - started)
            assert done.returncode == code
        # Half a second on a quiet core; CI runs two test processes on two cores.
        assert min(times) < 1.0
