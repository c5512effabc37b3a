"""Training for INT4: a trained student learns to answer, rounded, as it does in full precision."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgedistill.core.file_compression import AwareSpec
from edgedistill.core.files import write_json
from edgedistill.pipeline.stages.any_ground import AnyGround
from edgedistill.pipeline.stages.teacher import CHECKPOINTS

#: Stands among a file's passes where its student was trained on for them.
AWARE = "quantisation_aware"
BATCH_SIZE = 32


def export_aware(ground: AnyGround, model: Any, name: str, folder: Path) -> Path | None:
    """The export of `model`, trained on for INT4 where the task asks for it; None where not."""
    compress = ground.context.spec.compress
    if compress is None or compress.quantisation_aware is None:
        return None
    from edgedistill.export.onnx import OnnxExporter

    record = train_rounded(ground, compress.quantisation_aware, model, name, folder)
    write_json(folder / "awareness.json", record)
    return OnnxExporter().write(model, to=folder / "aware.onnx")


def train_rounded(
    ground: AnyGround, settings: AwareSpec, model: Any, name: str, folder: Path
) -> dict[str, Any]:
    """Train `model` in place; its products end with weights of four bits. Returns the record.

    The teacher is the model itself before: it is full precision that rounding is to lose nothing
    of, whatever the student had learned from whom.

    Raises:
        CannotApply: nothing in the model is worth four bits.
    """
    import torch

    from edgedistill.train.distill.logit_losses import softened_kl
    from edgedistill.train.distill.response import Response, ResponseConfig
    from edgedistill.train.loop import LoopConfig, train
    from edgedistill.train.tune.int4_grid import hold_on_grid, leave_on_grid

    answers = ground.logits(model, ground.taught)
    texts, rows = ground.validation
    target = torch.from_numpy(ground.logits(model, texts)[rows])

    def score(current: Any) -> float:
        return -float(softened_kl(torch.from_numpy(ground.logits(current, texts)[rows]), target, 1))

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # its noise is no part of what rounding does
    held = hold_on_grid(model)
    before, start = score(model), {n: t.clone() for n, t in model.state_dict().items()}
    result = train(
        model,
        Response(ResponseConfig(temperature=1.0, energy_weight=ground.settings.energy_weight)),
        ground.examples(answers),
        score=score,
        config=LoopConfig(
            settings.num_epochs, settings.learning_rate, batch_size=BATCH_SIZE, weight_decay=0.0,
            seed=ground.context.spec.seed,
        ),
        checkpoints=folder / CHECKPOINTS,
        stage=name,
        listener=ground.context.listener,
    )  # fmt: skip
    if result.best_score < before:
        # No epoch came as near to full precision as plain rounding: that is what is kept.
        model.load_state_dict(start)
    leave_on_grid(model, held)
    shutil.rmtree(folder / CHECKPOINTS)
    return {"before": before, "num_layers": len(held), **asdict(result)}
