"""What a cache of the teacher's likeliest tokens costs and saves against a teacher in the loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.cli.progress import PlainLines
from edgedistill.core.task_file import load_task
from edgedistill.evaluate.generation_score import gain
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.artefact import write_file
from edgedistill.pipeline.generation.dataset import prepare_conversations
from edgedistill.pipeline.generation.serving import ask, prompts_of
from edgedistill.pipeline.generation.student import Ground, Student, method_of, train_student
from edgedistill.pipeline.generation.teacher import prepare_teacher
from edgedistill.pipeline.generation.teacher_texts import prepare_texts
from edgedistill.pipeline.generation.transfer import prepare_transfer
from edgedistill.pipeline.store import Store
from generation_runtime import Row

#: Batches that one of the two has before the other has its turn.
BLOCK = 5


def offline_rows(task: Path, work: Path, *, num_epochs: int | None = None) -> list[Row]:
    """Score lost, epochs gained and bytes taken by the cache, for a task that was run in `work`.

    Both students have the same seed, epochs and batches; both answer the test split through
    llama.cpp in half precision, so that nothing but the teacher's signals differs.

    Args:
        num_epochs: of both students; left out: the task's own, the cached student being the run's.
    """
    grounds = {name: _ground(task, work, name, num_epochs) for name in ("cached", "live")}
    students = {name: train_student(ground) for name, ground in grounds.items()}
    answers = {name: _answers(grounds[name], student) for name, student in students.items()}
    cached = grounds["cached"]
    expected = [row.response for row in cached.data.rows.test]
    metric = cached.context.spec.output.scored_by
    lost = gain(metric, answers["cached"], answers["live"], expected)
    points = (100 * lost.value, 100 * lost.low, 100 * lost.high)
    faster = _epoch_ratio(cached, grounds["live"], students["cached"].load())
    num_bytes = cached.transfer.bytes_per_token
    top_k = cached.context.spec.distillation.top_k
    return [
        (f"offline top-{top_k}, score lost against the live teacher (same seed and epochs)",
         points, "points", "≤ 0.5", points[0] <= 0.5),
        ("distillation epoch: teacher in the loop / cached (A B A B)", faster, "×", "≥ 2",
         faster[0] >= 2),
        (f"cache of the teacher, top {top_k}, a token", (num_bytes,) * 3, "bytes", "≤ 400",
         num_bytes <= 400),
    ]  # fmt: skip


def _ground(task: Path, work: Path, teacher: str, num_epochs: int | None) -> Ground:
    """The run up to its student, everything before it found in the store."""
    spec: Any = load_task(task)
    training = spec.student.training
    if num_epochs is not None:
        training = training.model_copy(update={"num_epochs": num_epochs})
    spec = spec.model_copy(update={
        "distillation": spec.distillation.model_copy(update={"teacher": teacher}),
        "student": spec.student.model_copy(update={"training": training}),
    })  # fmt: skip
    listener = PlainLines(sys.stderr)
    store = Store(work / "store", listener)
    context = Context(spec, task.resolve().parent, work, store, listener, float("inf"))
    data = prepare_conversations(context)
    big = prepare_teacher(context, data)
    transfer = prepare_transfer(context, big, prepare_texts(context, data, big))
    return Ground(context, data, big, transfer)


def _answers(ground: Ground, student: Student) -> tuple[str | None, ...]:
    """Of the test split, through llama.cpp, by the task's grammar."""
    file = ground.context.folder / "offline.gguf"
    write_file(ground, ground.reader, student.load(), file, "f16")
    try:
        return ask(
            ground, ground.reader, file, prompts_of(ground.reader, ground.data.rows.test)
        ).answers
    finally:
        file.unlink()


def _epoch_ratio(cached: Ground, live: Ground, model: Any) -> tuple[float, float, float]:
    """Seconds of an epoch, live over cached; bounds are the quartiles of the blocks' ratios.

    The batches of both are the same; drawing them counts, since the cache is read there.
    """
    training = cached.context.spec.student.training
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-6, fused=True)
    rng, seed = torch.Generator(), cached.context.spec.seed

    def blocks(ground: Ground) -> Iterator[float]:
        """Seconds of one block after the other, each learned when it is asked for."""
        step, rows = method_of(ground)
        batches = rows.batches(training.batch_tokens, seed, 0, torch.device("cpu"))
        while True:
            started, num_learned = time.perf_counter(), 0
            for batch in islice(batches, BLOCK):
                with torch.autocast("cpu", torch.bfloat16, enabled=training.precision == "bf16"):
                    terms = step(model, batch, rng=rng)
                torch.stack(list(terms.values())).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
                num_learned += 1
            if not num_learned:
                return
            yield time.perf_counter() - started

    times = np.array(list(zip(blocks(live), blocks(cached), strict=True)))
    # The first block of each is warm-up, where there are others.
    times = times[1:] if len(times) > 1 else times
    low, high = np.quantile(times[:, 0] / times[:, 1], [0.25, 0.75])
    return float(times[:, 0].sum() / times[:, 1].sum()), float(low), float(high)
