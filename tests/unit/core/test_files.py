"""Atomic writes, locks and fingerprints."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgedistill.core import files
from edgedistill.core.errors import RunLocked, StorageError


def test_write_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    files.write_text(path, "one")
    files.write_text(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.txt"
    files.write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no room"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"a": float("nan")})


def test_fingerprint_ignores_key_order_only() -> None:
    assert files.fingerprint({"a": 1, "b": [2]}) == files.fingerprint({"b": [2], "a": 1})
    assert files.fingerprint({"a": 1}) != files.fingerprint({"a": 2})


def test_second_holder_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from edgedistill.core.files import exclusive\n"
        f"with exclusive(Path({str(tmp_path)!r})):\n print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(RunLocked), files.exclusive(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with files.exclusive(tmp_path):
        pass


def test_room(tmp_path: Path) -> None:
    files.require_room(tmp_path / "not" / "yet", 1)
    with pytest.raises(StorageError, match="are needed"):
        files.require_room(tmp_path, 10**18)
