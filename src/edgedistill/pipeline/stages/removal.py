"""Stage `removal-NAME`: what each pass on the network takes away, in parameters, bytes and time.

Every state of the network is exported and measured as a file of full precision, in turn with the
others: bytes and time follow from sizes, not from what the weights are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.files import read_json, write_json
from edgedistill.evaluate.report.removal import Removal
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.stages.any_ground import AnyGround
from edgedistill.pipeline.stages.artefact import NUM_TIMED
from edgedistill.pipeline.stages.student import TrainedStudent
from edgedistill.pipeline.stages.timing import alternate_files

ROWS = "removal.json"


def measure_removal(ground: AnyGround, student: TrainedStudent) -> tuple[Removal, ...]:
    """What every pass on the network of this student took away; empty where there was none."""
    accounts = student.training.get("accounts", ())
    if len(accounts) < 2:
        return ()
    threads = ground.context.spec.requirements.threads

    def compute(folder: Path) -> None:
        files = _exported(student.candidate.family, accounts, folder)
        times = alternate_files(ground, files, num_texts=NUM_TIMED)
        rows = [
            Removal(
                name=(each["pass"] or {"name": ""})["name"],
                settings=told_settings(each["pass"] or {}),
                parameters=each["parameters"],
                layer_parameters=each["layer_parameters"],
                size_bytes=file.stat().st_size,
                p50_ms=float(np.percentile(milliseconds, 50)),
            )
            for each, file, milliseconds in zip(accounts, files, times, strict=True)
        ]
        for file in files:
            file.unlink()
        write_json(folder / ROWS, [asdict(row) for row in rows])

    stage = ground.context.store.stage(
        f"removal-{student.candidate.name}",
        {"student": student.stage.fingerprint, "threads": threads},
        compute,
        rooms=("export", "models", "runtime", "pipeline/stages/removal", "pipeline/stages/timing"),
    )
    return tuple(Removal(**row) for row in read_json(stage.folder / ROWS))


def _exported(family: str, accounts: list[dict[str, Any]], folder: Path) -> list[Path]:
    from edgedistill.export.onnx import OnnxExporter

    restore = FAMILIES.load(family).shrinking.restore
    return [
        OnnxExporter().write(restore(each["shape"]), to=folder / f"{place}.onnx")
        for place, each in enumerate(accounts)
    ]


def told_settings(settings: Mapping[str, Any]) -> str:
    """Settings of a pass in words, without its name."""
    others = {key: value for key, value in settings.items() if key != "name"}
    if others.get("rounds") == 1:
        del others["rounds"]
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in others.items()
    )
