"""Olive's searches in turn, in one process: each has its share of the time that is left.

Called by compression_search_olive.py with the folder that has `asked.json`.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

from olive.workflows import run

from edgedistill.core.files import read_json, write_json


def main(folder: Path) -> None:
    began = time.monotonic()
    asked = read_json(folder / "asked.json")
    flows = asked["flows"]
    for place, (name, passes) in enumerate(flows.items()):
        left = asked["seconds"] - (time.monotonic() - began)
        search = {
            "execution_order": "joint", "sampler": "tpe", "seed": asked["seed"],
            # A sample that has begun is finished.
            "max_time": max(1, int(left / (len(flows) - place))),
        }  # fmt: skip
        out = {"output_dir": str(folder / name), "search_strategy": search}
        try:
            run({**asked["workflow"], "passes": passes, **out})
        except Exception:  # one sequence that it cannot make is no reason against the others
            traceback.print_exc()
    write_json(folder / "seconds.json", time.monotonic() - began)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
