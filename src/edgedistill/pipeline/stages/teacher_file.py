"""Stage `teacher-file`: the teacher as a full-precision ONNX file, the peer of every ratio."""

from __future__ import annotations

from pathlib import Path

from edgedistill.pipeline.stages.ground import Ground

FILE = "teacher.onnx"


def export_teacher(ground: Ground) -> Path:
    """The teacher's ONNX file, exported once."""

    def compute(folder: Path) -> None:
        from edgedistill.export.onnx import OnnxExporter

        OnnxExporter().write(ground.teacher.load(ground.data.dataset), to=folder / FILE)

    inputs = {"teacher": ground.teacher.stage.fingerprint}
    stage = ground.context.store.stage(
        "teacher-file", inputs, compute, rooms=("export", "models/teachers")
    )
    return stage.folder / FILE
