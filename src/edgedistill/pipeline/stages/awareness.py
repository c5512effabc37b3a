"""Training for a pass: a trained student learns to answer, as its file will hold it, as in full."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgedistill.core.file_compression import FileCompression
from edgedistill.core.files import write_json
from edgedistill.pipeline.stages.any_ground import AnyGround
from edgedistill.pipeline.stages.teacher import CHECKPOINTS

BATCH_SIZE = 32


def export_aware(ground: AnyGround, model: Any, name: str, folder: Path) -> tuple[str, Path] | None:
    """The export of `model`, trained on for a pass where the task asks for it, and by which
    training (its key stands among the file's passes); None where not."""
    compress = ground.context.spec.compress
    if compress is None or compress.trained_by is None:
        return None
    from edgedistill.export.onnx import OnnxExporter

    record = train_aware(ground, compress, model, name, folder)
    write_json(folder / "awareness.json", record)
    return compress.trained_by, OnnxExporter().write(model, to=folder / "aware.onnx")


def train_aware(
    ground: AnyGround, compress: FileCompression, model: Any, name: str, folder: Path
) -> dict[str, Any]:
    """Train `model` in place; it ends with the weights that the pass will find. Returns the record.

    The teacher is the model itself before: it is full precision that the file is to lose nothing
    of, whatever the student had learned from whom.

    Raises:
        CannotApply: nothing in the model is worth the pass.
    """
    import torch

    from edgedistill.train.distill.logit_losses import softened_kl
    from edgedistill.train.distill.response import Response, ResponseConfig
    from edgedistill.train.loop import LoopConfig, train
    from edgedistill.train.tune.held_weights import leave
    from edgedistill.train.tune.int4_grid import fitting_rate

    settings = compress.quantisation_aware or compress.sparse_training
    assert settings is not None
    answers = ground.logits(model, ground.taught)
    texts, rows = ground.validation
    target = torch.from_numpy(ground.logits(model, texts)[rows])

    def score(current: Any) -> float:
        return -float(softened_kl(torch.from_numpy(ground.logits(current, texts)[rows]), target, 1))

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # its noise is no part of what the pass does
    examples = ground.examples(answers)
    num_steps = settings.num_epochs * examples.num_batches(BATCH_SIZE, ground.context.spec.seed, 0)
    response = Response(
        ResponseConfig(temperature=1.0, energy_weight=ground.settings.energy_weight)
    )
    held, step = _held(compress, model, response, num_steps)
    rate = settings.learning_rate or fitting_rate(model, held)
    config = LoopConfig(
        settings.num_epochs, rate, batch_size=BATCH_SIZE, weight_decay=0.0,
        seed=ground.context.spec.seed,
        # An epoch at a high rate, or in which the sparsity rises, is no sign of the next.
        patience=settings.num_epochs,
    )  # fmt: skip
    before, start = score(model), {n: t.clone() for n, t in model.state_dict().items()}
    result = train(
        model, step, examples, score=score, config=config, checkpoints=folder / CHECKPOINTS,
        stage=name, listener=ground.context.listener,
    )  # fmt: skip
    if result.best_score < before:
        # No epoch came as near to full precision as the plain pass: that is what is kept.
        model.load_state_dict(start)
    leave(model, held)
    shutil.rmtree(folder / CHECKPOINTS)
    return {"before": before, "num_layers": len(held), "learning_rate": rate, **asdict(result)}


def _held(
    compress: FileCompression, model: Any, step: Any, num_steps: int
) -> tuple[list[str], Any]:
    """The parameters that `model` reads from now on as the pass will store them, and the step that
    trains it so."""
    from edgedistill.train.tune.int4_grid import hold_on_grid
    from edgedistill.train.tune.sparse_weights import RisingSparsity, hold_sparse

    if compress.sparse_training is None:
        return hold_on_grid(model), step
    in_runs = compress.trained_for == "sparse_two_of_four"
    held = hold_sparse(model, compress.sparse_training.by, in_runs=in_runs)
    return held, RisingSparsity(step, model, num_steps)
