"""Stage `teacher-file`: the teacher as a full-precision ONNX file, the peer of every ratio."""

from __future__ import annotations

from pathlib import Path

from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.teacher import Teacher

FILE = "teacher.onnx"


def export_teacher(context: Context, data: PreparedData, teacher: Teacher) -> Path:
    """The teacher's ONNX file, exported once."""

    def compute(folder: Path) -> None:
        from edgedistill.export.onnx import OnnxExporter

        OnnxExporter().write(teacher.load(data.dataset), to=folder / FILE)

    inputs = {"teacher": teacher.stage.fingerprint}
    stage = context.store.stage("teacher-file", inputs, compute, rooms=("export",))
    return stage.folder / FILE
