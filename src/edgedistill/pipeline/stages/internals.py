"""Stage `internals`: what the teacher computes inside for each text to be learned, read once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.core.events import Event
from edgedistill.core.files import free_bytes
from edgedistill.pipeline.strategy import Layers, teacher_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgedistill.core.protocols import Signal
    from edgedistill.models.internals_cache import RaggedSignal
    from edgedistill.pipeline.stages.any_ground import AnyGround

ROOMS = ("models/teachers", "models/internals", "models/internals_cache",
         "pipeline/stages/internals")  # fmt: skip
#: A cache may take this share of the disk's free bytes; else the teacher reads along in training.
MOST_DISK_SHARE = 0.25


@dataclass(frozen=True)
class TeacherInternals:
    """The layers that students learn from, by signal.

    `signals`: row i is about text i of the transfer set; None where the teacher reads each batch
    along. `note`: which of the two, and why, for the report.
    """

    layers: Layers
    signals: Mapping[Signal, RaggedSignal] | None
    note: str


def prepare_internals(ground: AnyGround, layers: Layers) -> TeacherInternals | None:
    """Read the teacher's layers once and keep them, where they fit; None where none is asked for.

    Raises:
        ModelError: the teacher computes something that is not a number.
    """
    from edgedistill.models.internals_cache import (
        internals_bytes,
        open_internals,
        write_internals,
    )

    if not layers:
        return None
    context, texts = ground.context, ground.taught
    shape = teacher_shape(ground.teacher.source)
    inputs = {
        "transfer": ground.stage.fingerprint,
        "layers": {signal.name: list(layers[signal]) for signal in layers},
        "num_texts": len(texts),
    }
    size_bytes = internals_bytes(layers, shape, texts.lengths)
    reason = reason_against(size_bytes, context.store.folder)
    if reason and not context.store.holds("internals", inputs, rooms=ROOMS):
        context.listener(Event("internals", "note", reason))
        return TeacherInternals(layers, None, reason)

    def compute(folder: Path) -> None:
        def progress(done: float) -> None:
            message = f"the teacher's inside on {len(texts):,} texts"
            context.listener(Event("internals", "progress", message, done))

        write_internals(
            ground.load_teacher(), texts, layers, shape, folder,
            pad_id=ground.encoder.pad_id, progress=progress,
        )  # fmt: skip

    stage = context.store.stage("internals", inputs, compute, rooms=ROOMS)
    note = (
        f"What the teacher computes inside was read once and kept in half precision "
        f"({told(layers)}; {size_bytes / 1e6:,.1f} MB)."
    )
    return TeacherInternals(layers, open_internals(stage.folder, texts, layers, shape), note)


def reason_against(size_bytes: int, folder: Path) -> str:
    """Why a cache of so many bytes is not made in `folder`; empty where it is."""
    free = free_bytes(folder)
    if size_bytes <= MOST_DISK_SHARE * free:
        return ""
    return (
        f"What the teacher computes inside would take {size_bytes / 1e6:,.1f} MB, more than "
        f"{MOST_DISK_SHARE:.0%} of the {free / 1e6:,.1f} MB that are free: it is not kept, the "
        "teacher reads each batch along in training."
    )


def told(layers: Layers) -> str:
    """Signals and layers in words."""
    return "; ".join(
        f"{signal.value} of layers {', '.join(map(str, layers[signal]))}" for signal in layers
    )
