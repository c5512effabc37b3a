"""What caching the teacher's outputs saves: a distillation step with and without it in the loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.core.events import silent
from edgedistill.core.protocols import Batch, Signal
from edgedistill.core.task_file import load_task
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.search import candidates_of
from edgedistill.pipeline.stages.dataset import prepare_data
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.student import load_student, train_student
from edgedistill.pipeline.stages.teacher import prepare_teacher
from edgedistill.pipeline.stages.transfer import prepare_transfer
from edgedistill.pipeline.store import Store
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.response import Response, ResponseConfig

NUM_STEPS = 40
BLOCK = 5


def measure_loop_ratio(
    work: Path, bundles: dict[str, Any], *, quick: bool
) -> dict[str, tuple[float, float, float]]:
    """For each bundle: seconds a step with the teacher in the loop over seconds with the cache.

    Both take the same batches in turn, blocks A B A B; the ratio is that of the medians, its
    bounds the quartiles of the ratios block by block.
    """
    return {name: _ratio(work / f"clinc150-{name}-0.yaml", work, quick=quick) for name in bundles}


def _ratio(task: Path, work: Path, *, quick: bool) -> tuple[float, float, float]:
    spec = load_task(task)
    context = Context(spec, task.parent, work, Store(work / "store", silent), silent, float("inf"))
    data = prepare_data(context)
    teacher = prepare_teacher(context, data)
    transfer = prepare_transfer(context, data, teacher)
    ground = Ground(context, data, teacher, transfer)
    candidate = candidates_of(spec)[-1]
    model = load_student(ground, train_student(ground, candidate)).train()
    recipe = FAMILIES.load(candidate.family).recipe
    step = Response(ResponseConfig(temperature=recipe.temperature))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    big = teacher.load(data.dataset)
    labels = np.full(len(transfer.texts), -1, np.int64)
    examples = TrainingSet(
        transfer.texts, labels, teacher.encoder.pad_id, {Signal.LOGITS: transfer.logits}
    )
    rng = torch.Generator()

    def learn(batch: Batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = step(model, batch, rng=rng)["soft"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def learn_with_teacher(batch: Batch) -> None:
        with torch.no_grad():
            logits = big(batch.input_ids, batch.attention_mask).logits
        learn(Batch(batch.input_ids, batch.attention_mask, batch.labels, {Signal.LOGITS: logits}))

    batches = examples.batches(recipe.batch_size, 0, 0, torch.device("cpu"))
    num = 10 if quick else NUM_STEPS
    return _alternate(learn_with_teacher, learn, list(islice(batches, num)))


def _alternate(
    slow: Callable[[Batch], None], fast: Callable[[Batch], None], batches: list[Batch]
) -> tuple[float, float, float]:
    for warm in (slow, fast):
        warm(batches[0])
    blocks = [batches[i : i + BLOCK] for i in range(0, len(batches), BLOCK)]
    times = np.array([[_seconds(call, block) for call in (slow, fast)] for block in blocks])
    ratios = times[:, 0] / times[:, 1]
    low, high = np.quantile(ratios, [0.25, 0.75])
    return float(np.median(times[:, 0]) / np.median(times[:, 1])), float(low), float(high)


def _seconds(call: Callable[[Batch], None], block: list[Batch]) -> float:
    started = time.perf_counter()
    for batch in block:
        call(batch)
    return time.perf_counter() - started
