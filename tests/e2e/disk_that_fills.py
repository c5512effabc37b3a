"""Run a task on a disk of its own that fills up, again and again, until there is room enough.

Usage: python disk_that_fills.py TASK FOLDER. Needs the right to mount (`unshare --mount`).
Prints a JSON line for each attempt: kilobytes of the disk, exit code, last line of the message.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys

from edgedistill.cli.app import main
from edgedistill.pipeline import run

STEPS_KB = (40, 200, 600, 900, 1200, 1500, 1800, 2200, 2700, 3400, 60_000)


def attempt(task: str, folder: str) -> tuple[object, str]:
    sys.argv = ["edgedistill", "run", task, "--runs-dir", f"{folder}/runs"]
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            main()
        except SystemExit as end:
            return end.code, told.getvalue()
    return None, told.getvalue()


def fill(task: str, folder: str) -> None:
    # The first check would refuse so small a disk.
    run.LEAST_FREE_BYTES = 0
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, f"size={STEPS_KB[0]}k", "none", folder], check=True)
    for size in STEPS_KB:
        subprocess.run(["mount", "-o", f"remount,size={size}k", folder], check=True)
        code, told = attempt(task, folder)
        print(json.dumps({"kilobytes": size, "code": code, "told": told[-2000:]}), flush=True)
        if code in (0, 10):
            return


if __name__ == "__main__":
    fill(*sys.argv[1:])
