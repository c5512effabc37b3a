"""Olive's searches in turn, in one process: each has its share of the time that is left.

Called by compression_search_olive.py with the folder that has `asked.json`.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

from olive.workflows import run

from compression_search_olive import model_files
from edgedistill.core.files import read_json, write_json


def main(folder: Path) -> None:
    began = time.monotonic()
    asked = read_json(folder / "asked.json")
    flows = asked["flows"]
    for place, (name, flow) in enumerate(flows.items()):
        left = asked["seconds"] - (time.monotonic() - began)
        search = {
            "execution_order": "joint", "sampler": "tpe", "seed": asked["seed"],
            # A sample that has begun is finished.
            "max_time": max(1, int(left / (len(flows) - place))),
        }  # fmt: skip
        source = folder / "fused" / "footprint.json"
        made = model_files(source) if flow["of_fused"] and source.exists() else []
        workflow = {
            **asked["workflow"], "passes": flow["passes"], "search_strategy": search,
            "output_dir": str(folder / name),
        }  # fmt: skip
        if made:
            workflow["input_model"] = {"type": "ONNXModel", "model_path": str(made[0])}
        try:
            run(workflow)
        except Exception:  # one pass that fails is no reason against the others
            traceback.print_exc()
    write_json(folder / "seconds.json", time.monotonic() - began)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
