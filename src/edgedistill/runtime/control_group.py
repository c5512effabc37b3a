"""A control group (version 2) of its own for one process, so that the kernel keeps its memory."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

_NUMBERS = count()
_REMOVING_S = 2.0


class ControlGroup:
    """A group with a limit of memory, swap included. Whoever makes it removes it.

    Args:
        folder: an existing group that nothing else uses.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, memory_bytes: int, *, process: Path = Path("/proc/self")) -> ControlGroup | None:
        """A new group beside or below this process' own; None where there can be none.

        There can be one where version 2 of control groups is mounted, hands the memory controller
        down, and this user may write there: mostly under systemd, rarely inside a container.

        Args:
            process: where the kernel tells of this process.
        """
        for parent in _possible_parents(process):
            folder = parent / f"edgedistill-{os.getpid()}-{next(_NUMBERS)}"
            try:
                if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                    continue
                folder.mkdir()
            except OSError:
                continue
            group = cls(folder)
            try:
                (folder / "memory.max").write_text(str(memory_bytes))
            except OSError:
                group.remove()
                continue
            # Swap would let it grow beyond; a kernel without swap has no such file.
            with suppress(OSError):
                (folder / "memory.swap.max").write_text("0")
            return group
        return None

    def command(self, command: Sequence[str]) -> list[str]:
        """The command, run by a process that has entered the group before it begins."""
        entry = str(self.folder / "cgroup.procs")
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', entry, *command]

    def remove(self) -> None:
        """Kill what is left in it, and remove it."""
        kill = self.folder / "cgroup.kill"
        if kill.exists():  # Linux 5.14 and later
            with suppress(OSError):
                kill.write_text("1")
        deadline = time.monotonic() + _REMOVING_S
        while self.folder.exists() and time.monotonic() < deadline:
            # Busy until the kernel has buried what was killed.
            with suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.01)


def _possible_parents(process: Path) -> list[Path]:
    """The group of this process, and the one above: a group with processes hands nothing down."""
    try:
        mounts = (process / "mountinfo").read_text().splitlines()
        groups = (process / "cgroup").read_text().splitlines()
    except OSError:
        return []
    # Fields: id, parent, device, root, mount point, options …, "-", type, source, options.
    roots = [line.split()[4] for line in mounts if line.partition(" - ")[2].startswith("cgroup2 ")]
    own = [line.removeprefix("0::") for line in groups if line.startswith("0::")]
    if not roots or not own:
        return []
    root = Path(roots[0])
    folder = root / own[0].lstrip("/")
    return [folder] if folder == root else [folder, folder.parent]
