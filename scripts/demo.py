"""The demo: the support desk's task file to a verified bundle and a report.

Like `edgedistill run examples/support_desk/task.yaml`, with a few predictions at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import edgedistill
from edgedistill.cli.progress import listener_for

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [
    "my parcel says delivered but theres nothing at the door",
    "can i swap the boots i got for a size 43",
    "what's the best route up Ben Nevis in winter?",
]


def main() -> int:
    with listener_for(log_json=False) as listener:
        result = edgedistill.run(
            ROOT / "examples/support_desk/task.yaml", runs_dir=ROOT / "runs", listener=listener
        )
    for text, answer in zip(TEXTS, edgedistill.load(result.bundle).predict(TEXTS), strict=True):
        told = f"{answer.label} ({answer.confidence:.0%})" if answer.label else f"? {answer.detail}"
        print(f"{text!r} → {told}")
    print(result.summary())
    return 0 if result.ships else 10


if __name__ == "__main__":
    sys.exit(main())
