"""Help, version, errors and exit codes of the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgedistill
from edgedistill.core.errors import EXIT_CODES
from edgedistill.runtime.bundle import Bundle

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
SOURCE = str(Path(edgedistill.__file__).parents[1])


def test_help_lists_commands_and_exit_codes(edgedistill_command: Run) -> None:
    done = edgedistill_command("--help")
    output = done.stdout.decode()
    assert done.returncode == 0
    for command in ("predict", "bench", "verify", "compare", "serve", "run", "check", "init"):
        assert f"  {command} " in output
    for code, meaning in EXIT_CODES.items():
        assert f"{code:3d}  {meaning}" in output


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys; from edgedistill.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True,
            env={"PYTHONPATH": SOURCE},
        )  # fmt: skip
        times.append(time.perf_counter() - begun)
    heavy = {"numpy", "onnxruntime", "tokenizers", "torch", "pydantic", "yaml", "fastapi"}
    assert not heavy & set(done.stderr.decode().split())
    # The best of three: this machine is shared.
    assert min(times) < 0.4


def test_version(edgedistill_command: Run) -> None:
    assert edgedistill_command("--version").stdout.decode().startswith("edgedistill ")
    with pytest.raises(AttributeError):
        _ = edgedistill.no_such_thing


def test_what_can_be_mended_is_a_sentence_without_traceback(
    edgedistill_command: Run, bundle: Bundle
) -> None:
    (bundle.path / "model.onnx").unlink()
    done = edgedistill_command("predict", bundle.path, "stop it now")
    told = done.stderr.decode()
    assert done.returncode == 6
    assert "model.onnx is missing" in told
    assert "→ copy the bundle again" in told
    assert "Traceback" not in told
    assert done.stdout == b""


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_where(edgedistill_command: Run, tmp_path: Path, how: str) -> None:
    option = ["--debug"] if how == "option" else []
    env = {} if how == "option" else {"EDGEDISTILL_DEBUG": "1"}
    done = edgedistill_command(*option, "verify", tmp_path / "absent", env=env)
    assert done.returncode == 6
    assert "Traceback" in done.stderr.decode()


def test_a_defect_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedistill.cli import app as entry

    def defective(**_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(entry, "app", defective)
    with pytest.raises(SystemExit) as caught:
        entry.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "edgedistill: unexpected ZeroDivisionError: division by zero (--debug shows where)\n"
    )


@pytest.mark.parametrize("arguments", [["fly"], ["verify"], ["bench", "x", "--threads", "0"]])
def test_a_wrong_command_line_exits_with_2(edgedistill_command: Run, arguments: list[str]) -> None:
    done = edgedistill_command(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr.decode()


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """A shell's background jobs ignore the signal, and so would what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
def test_interrupted(bundle: Bundle) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "edgedistill.cli.app", "predict", bundle.path, "--stdin"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE},
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"stop it now\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == b"edgedistill: interrupted\n"


def test_a_missing_extra_is_named(edgedistill_command: Run, bundle: Bundle, tmp_path: Path) -> None:
    # A module of that name that cannot be found inside stands for a package that is absent.
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('no uvicorn', name='uvicorn')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        f"sys.argv = ['edgedistill', 'serve', {str(bundle.path)!r}]; "
        "from edgedistill.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip
    assert done.returncode == 4
    assert "edgedistill[serve]" in done.stderr.decode()
