"""Stage `sensitivity`: what each pass on the network does to it alone, before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.files import read_json, write_json
from edgedistill.pipeline.pass_options import FIRST, Effect, name_of
from edgedistill.pipeline.stages.any_ground import AnyGround, Candidate
from edgedistill.pipeline.stages.student import build_student
from edgedistill.pipeline.stages.timing import alternate_files
from edgedistill.pipeline.store import StageResult

EFFECTS = "effects.json"
#: Validation texts that are answered: what proposes need not be exact, trials decide.
NUM_TEXTS = 300
NUM_TIMED = 100


def measure_effects(
    ground: AnyGround, family: str, single: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Effect], StageResult]:
    """The effect of each single pass, by its name, and the stage that measured them.

    Each is taken beside the vocabulary's, on validation texts; files in full precision are timed
    in turn with each other.
    """
    required = ground.context.spec.requirements

    def compute(folder: Path) -> None:
        networks = [[FIRST], *([FIRST, each] for each in single)]
        measured = [_measured(ground, family, passes, folder) for passes in networks]
        times = alternate_files(
            ground, [file for file, _ in measured], num_texts=NUM_TIMED, rounds=1
        )
        (whole, *p50s), (least, *found) = (
            [float(np.median(taken)) for taken in times], [nats for _, nats in measured],
        )  # fmt: skip
        effects = {
            name_of((each,)): asdict(Effect(nats - least, p50 / whole))
            for each, nats, p50 in zip(single, found, p50s, strict=True)
        }
        for file, _ in measured:
            file.unlink()
        write_json(folder / EFFECTS, effects)

    stage = ground.context.store.stage(
        "sensitivity",
        {
            "transfer": ground.stage.fingerprint, "answers": ground.answers.fingerprint,
            "family": family, "passes": [dict(each) for each in single],
            "seed": ground.context.spec.seed, "threads": required.threads,
        },
        compute,
        rooms=(
            "export", "models", "runtime", "train/distill", "pipeline/pass_options",
            "pipeline/stages/sensitivity", "pipeline/stages/timing", *ground.rooms,
        ),
    )  # fmt: skip
    rows = read_json(stage.folder / EFFECTS)
    return {name: Effect(**row) for name, row in rows.items()}, stage


def _measured(
    ground: AnyGround, family: str, passes: Sequence[Mapping[str, Any]], folder: Path
) -> tuple[Path, float]:
    """The file of a network, and how far its answers are from the teacher's, in nats a text; of a
    tagger a token, labels of whole texts apart."""
    import torch

    from edgedistill.export.onnx import OnnxExporter
    from edgedistill.train.distill.logit_losses import softened_kl

    name = name_of(tuple(passes)) or "whole"
    model, _ = build_student(ground, Candidate(family, name, {"passes": [dict(p) for p in passes]}))
    texts, counted = ground.validation
    said = ground.logits(model, texts.part(0, min(NUM_TEXTS, len(texts))))
    rows = np.arange(len(ground.answers.validation))[counted]
    rows = rows[rows < len(said)]
    asked = torch.from_numpy(np.asarray(ground.answers.validation[rows]))
    file = OnnxExporter().write(model, to=folder / f"{name}.onnx")
    return file, float(softened_kl(torch.from_numpy(said[rows]), asked, 1.0))
