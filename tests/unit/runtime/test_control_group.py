"""Control groups: where one can be made, what is written there, who enters it.

The kernel's files are stood in for by plain ones; what they then do is the kernel's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgedistill.runtime.control_group import ControlGroup


@pytest.fixture
def process(tmp_path: Path) -> Path:
    """What the kernel tells of a process in the group /app/own of a tree in tmp_path/tree."""
    folder = tmp_path / "process"
    folder.mkdir()
    mount = f"31 23 0:27 / {tmp_path / 'tree'} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
    other = "30 23 0:26 / /sys/fs/cgroup/cpu rw shared:8 - cgroup cgroup rw,cpu"
    (folder / "mountinfo").write_text(f"{other}\n{mount}\n")
    (folder / "cgroup").write_text("4:memory:/elsewhere\n0::/app/own\n")
    own = tmp_path / "tree/app/own"
    own.mkdir(parents=True)
    (own / "cgroup.subtree_control").write_text("\n")
    (own.parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return folder


def test_a_group_lies_where_memory_is_handed_down(process: Path, tmp_path: Path) -> None:
    group = ControlGroup.make(50_000_000, process=process)
    assert group is not None
    assert group.folder.parent == tmp_path / "tree/app"
    assert (group.folder / "memory.max").read_text() == "50000000"
    assert (group.folder / "memory.swap.max").read_text() == "0"
    other = ControlGroup.make(1, process=process)
    assert other is not None
    assert other.folder != group.folder


def test_a_process_enters_before_it_begins(process: Path) -> None:
    group = ControlGroup.make(1, process=process)
    assert group is not None
    entry = group.folder / "cgroup.procs"
    code = "import os, sys; print(os.getpid(), open(sys.argv[1]).read().strip(), sys.argv[2])"
    command = group.command([sys.executable, "-c", code, str(entry), "with blanks"])
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert told[0] == told[1]
    assert told[2:] == ["with", "blanks"]


def test_what_cannot_be_entered_does_not_run(process: Path) -> None:
    group = ControlGroup.make(1, process=process)
    assert group is not None
    (group.folder / "cgroup.procs").mkdir()
    ended = subprocess.run(
        group.command([sys.executable, "-c", "print(1)"]), capture_output=True, check=False
    )
    assert ended.returncode != 0
    assert ended.stdout == b""


def test_nothing_is_left_of_a_group(process: Path) -> None:
    group = ControlGroup.make(1, process=process)
    assert group is not None
    for file in group.folder.iterdir():
        file.unlink()  # the kernel's keep no folder from being removed
    group.remove()
    assert not group.folder.exists()
    group.remove()  # what is gone is gone


def test_where_memory_is_not_handed_down_there_is_none(process: Path, tmp_path: Path) -> None:
    (tmp_path / "tree/app/cgroup.subtree_control").write_text("cpu\n")
    assert ControlGroup.make(1, process=process) is None
    assert [path.name for path in (tmp_path / "tree/app").iterdir() if path.is_dir()] == ["own"]


def test_without_the_second_version_there_is_none(process: Path) -> None:
    (process / "mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw\n")
    assert ControlGroup.make(1, process=process) is None
    (process / "mountinfo").unlink()
    assert ControlGroup.make(1, process=process) is None
