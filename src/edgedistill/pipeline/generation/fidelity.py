"""The ledger of a language model: the same prompts through every hop, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.evaluate.fidelity import Hop
from edgedistill.evaluate.generation_score import score
from edgedistill.pipeline.generation.artefact import (
    format_name,
    full_precision,
    suffix,
    token_agreement,
    write_file,
)
from edgedistill.pipeline.generation.serving import ask, open_model, prompts_of
from edgedistill.pipeline.generation.student import Ground, Student
from edgedistill.tasks.generation.sections import spoken

#: Validation prompts that go through every hop.
NUM_GOLDEN = 48
#: Least share of tokens equal to the hop before.
LEAST_AGREEMENT = {
    "f32": 0.995, "f16": 0.98, "q8_0_f16": 0.95, "q8_0": 0.95, "onnx_f32": 0.995,
    "onnx_int8": 0.95,
}  # fmt: skip


@dataclass(frozen=True)
class _Written:
    """One greedy answer."""

    text: str
    ids: tuple[int, ...] | None
    num_new: int


@dataclass(frozen=True)
class _Station:
    """What a hop answers, and the log-probability it gives to each token of the right answers."""

    name: str
    answers: tuple[Any, ...]
    logprobs: np.ndarray
    bar: float | None


def keep_ledger(
    ground: Ground, student: Student, shipped: Path, kind: str, generator: Any, folder: Path
) -> list[Hop]:
    """Teacher, student, student in full precision as a file, the type that ships, the bundle.

    Up to the bundle the models write freely and greedily; the task's schema and beams then have
    a hop of their own.

    Args:
        shipped: the file of type `kind`. folder: for the full-precision file.
    """
    rows = ground.data.rows.validation[:NUM_GOLDEN]
    prompts, expected = prompts_of(ground, rows), [row.response for row in rows]
    whole = [ground.teacher.encoder.encode(row) for row in rows]
    model = student.load()
    stations = [
        _in_torch(ground, "teacher", ground.teacher.load(), prompts, whole),
        _in_torch(ground, "student", model, prompts, whole),
    ]
    widest = full_precision(kind)
    full = folder / f"full{suffix(kind)}"
    write_file(ground, model, full, widest)
    stations.append(_in_runtime(ground, format_name(widest), full, prompts, whole, widest))
    if kind != widest:
        stations.append(_in_runtime(ground, format_name(kind), shipped, prompts, whole, kind))
    held = ["by the schema"] * (generator.settings.schema is not None)
    held += [f"{generator.settings.beams} beams"] * (generator.settings.beams > 1)
    if held:
        asked = ask(ground, shipped, prompts).completions
        stations.append(_Station(", ".join(held), asked, stations[-1].logprobs, None))
    # Through the bundle's own tokenizer and frames: the same file must answer the same.
    limit = generator.settings.max_new_tokens
    framed = [
        generator.prompt_ids([(turn.role, spoken(turn)) for turn in row.prompt]) for row in rows
    ]
    asked = tuple(generator.complete(ids, limit) for ids in framed)
    stations.append(_Station("bundle", asked, stations[-1].logprobs, 1.0))
    full.unlink()
    return _hops(ground, stations, expected, generator.settings.response)


def _hops(
    ground: Ground,
    stations: Sequence[_Station],
    expected: Sequence[str],
    response: Callable[[str], str | None],
) -> list[Hop]:
    metric = ground.context.spec.output.scored_by
    hops: list[Hop] = []
    for number, station in enumerate(stations):
        before = stations[number - 1] if number else None
        agreement = token_agreement(station.answers, before.answers) if before else None
        first = token_agreement(station.answers, stations[0].answers) if before else None
        change = float(np.abs(station.logprobs - before.logprobs).max()) if before else None
        # Another model answers otherwise: only what should change nothing has a bar.
        holds = station.bar is None or agreement is None or agreement >= station.bar
        note = f"perplexity of the right answers {np.exp(-station.logprobs.mean()):.4f}"
        if before is not None and station.bar is not None:
            kl = float((before.logprobs - station.logprobs).mean())
            note += f", {kl:+.2e} nats a token against the hop before"
        if not holds:
            note += f"; {agreement:.2%} of the tokens equal, at least {station.bar:.2%} required"
        value = score(metric, [response(answer.text) for answer in station.answers], expected)
        hops.append(Hop(station.name, agreement, first, value, change, holds, note))
    return hops


def _in_torch(
    ground: Ground, name: str, model: Any, prompts: Sequence[Sequence[int]], whole: Sequence[Any]
) -> _Station:
    from edgedistill.models.language.decoding import greedy_ids, log_probabilities

    tokenizer, limit = ground.teacher.tokenizer, ground.context.spec.output.max_new_tokens
    answers = []
    for ids in prompts:
        new = greedy_ids(model, ids, max_new_tokens=limit, end_id=tokenizer.end)
        answers.append(_Written(tokenizer.decode(new), tuple(new), len(new)))
    logprobs = [log_probabilities(model, row.ids)[row.learned[1:]] for row in whole]
    return _Station(name, tuple(answers), np.concatenate(logprobs), None)


def _in_runtime(
    ground: Ground,
    name: str,
    file: Path,
    prompts: Sequence[Sequence[int]],
    whole: Sequence[Any],
    kind: str,
) -> _Station:
    answers = ask(ground, file, prompts, constrained=False).completions
    with open_model(ground.context.spec, ground.teacher.encoder, file) as session:
        logprobs = [session.score(row.ids.tolist())[row.learned[1:]] for row in whole]
    bar = LEAST_AGREEMENT.get(kind)
    return _Station(name, answers, np.concatenate(logprobs), bar)
