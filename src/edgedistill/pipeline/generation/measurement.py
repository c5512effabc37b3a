"""Everything measured on the bundle itself: test answers, validity, abstentions, speed, bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.conversation import Turn
from edgedistill.evaluate.generation_score import gain, retention, score
from edgedistill.evaluate.metrics import auroc
from edgedistill.evaluate.report.content import Footprint
from edgedistill.evaluate.text_boundary import FittedBoundary, fit_boundary, fit_surprisal
from edgedistill.evaluate.verdict import Count, FalseAbstention, Measurements
from edgedistill.pipeline.generation.reader import Reader
from edgedistill.pipeline.generation.serving import ask, prompt_text, prompts_of
from edgedistill.pipeline.generation.speed import timed
from edgedistill.pipeline.generation.student import Ground
from edgedistill.pipeline.own_processes import own_processes
from edgedistill.runtime.bundle import open_bundle
from edgedistill.runtime.generation.boundary import surprisal
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.generation.written import fault
from edgedistill.runtime.measuring import distribution_free_upper
from edgedistill.tasks.generation.sections import spoken

#: Prompts that are asked again, and asked from out of bounds.
NUM_REPEATED, NUM_OUTSIDE = 100, 300


@dataclass(frozen=True)
class Measured:
    """Figures of the bundle on the test split, and what is behind them."""

    measurements: Measurements
    answers: dict[str, tuple[str | None, ...]]
    edge_answers: tuple[str | None, ...]
    inside: np.ndarray
    outside: np.ndarray
    footprint: Footprint
    teacher_footprint: Footprint
    summary: dict[str, Any]


def fit(ground: Ground, file: Path) -> FittedBoundary:
    """Fit the boundary on training prompts, choose and calibrate it on validation."""
    rows, encoder = ground.data.rows, ground.reader.encoder
    arrays = fit_surprisal(
        [np.array(encoder.content_ids(prompt_text(row))) for row in rows.train],
        len(ground.reader.tokenizer),
    )
    inside = [prompt_text(row) for row in rows.validation]
    outside = list(rows.outside.get("validation", ()))
    scores = {name: _scores(ground, file, texts, arrays) for name, texts in
              (("inside", inside), ("outside", outside))}  # fmt: skip
    rate = ground.context.spec.boundary.false_abstention_rate
    return fit_boundary(scores["inside"], scores["outside"] if outside else {}, rate, arrays)


def _scores(
    ground: Ground, file: Path, texts: Sequence[str], arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Both scores of prompts, by kind."""
    encoder = ground.reader.encoder
    prompts = [encoder.encode_prompt((Turn("user", text),)).tolist() for text in texts]
    return {
        "surprisal": np.array(
            [surprisal(encoder.content_ids(t), arrays["tokens"], arrays["pairs"]) for t in texts]
        ),
        "doubt": np.array(ask(ground, ground.reader, file, prompts).doubts),
    }


def measure(
    ground: Ground,
    bundle: Path,
    generator: Generator,
    fitted: FittedBoundary,
    peers: dict[str, tuple[Path, Reader]],
) -> Measured:
    """Score the test split once, through the bundle, and time it against the teacher in turn.

    Args:
        peers: files of the `teacher` and the `control`, in the format that ships, and how they
            read.
    """
    spec, rows = ground.context.spec, ground.data.rows.test
    metric, required = spec.output.scored_by, spec.requirements
    expected = [row.response for row in rows]
    shipped, inside = _through_bundle(generator, rows)
    answers = {"shipped": shipped} | {
        name: ask(ground, reader, file, prompts_of(reader, rows)).answers
        for name, (file, reader) in peers.items()
    }
    outside_texts = ground.data.rows.outside.get("test", ())[:NUM_OUTSIDE]
    outside, outside_refused = _outside(generator, outside_texts)
    refused = Count(int((inside > fitted.boundary.threshold).sum()), len(rows))
    ours, theirs = timed(ground, generator, peers["teacher"][0])
    kept = retention(metric, answers["teacher"], shipped, expected, confidence=required.confidence)
    repeated = [prompt_text(row) for row in rows[:NUM_REPEATED]]
    costs = own_processes(bundle, repeated[:16], required)
    measurements = Measurements(
        retention=kept,
        size_bytes=open_bundle(bundle).model_bytes,
        latency_p95_ms=float(np.percentile(ours.samples_ms, 95)),
        latency_p95_upper_ms=distribution_free_upper(ours.samples_ms, 0.95, required.confidence),
        repeat_agreement=_repeated(generator, repeated),
        batch_agreement=None,
        out_of_bounds_refused=outside_refused,
        false_abstention=FalseAbstention(fitted.conformal.rate, fitted.conformal.num_rows, refused),
        valid=Count(sum(answer is not None for answer in shipped), len(shipped)),
        peak_memory_bytes=costs.peak_memory_bytes,
        cold_starts_ms=costs.cold_starts_ms,
    )
    footprint = replace(
        ours.footprint(measurements.size_bytes, required.confidence),
        peak_memory_bytes=costs.peak_memory_bytes,
        cold_starts_ms=costs.cold_starts_ms,
    )
    teacher_footprint = theirs.footprint(peers["teacher"][0].stat().st_size, required.confidence)
    summary = {
        "score": {name: score(metric, found, expected) for name, found in answers.items()},
        "retention": kept.as_json(),
        "gain_over_control": gain(
            metric, answers["control"], shipped, expected, confidence=required.confidence
        ).as_json(),
        "size_bytes": measurements.size_bytes,
        "latency": asdict(footprint.latency),
        "teacher_latency": asdict(teacher_footprint.latency),
        "first_token": footprint.first_token and asdict(footprint.first_token),
        "tokens_per_s": footprint.tokens_per_s,
        "teacher_tokens_per_s": teacher_footprint.tokens_per_s,
        "valid": measurements.valid.rate if measurements.valid else None,
        "false_abstention": refused.rate,
        "out_of_bounds_recall": outside_refused.rate if outside_refused else None,
        "out_of_bounds_auroc": auroc(inside, outside) if len(outside) else None,
        "boundary": fitted.boundary.kind,
        "repeat_agreement": measurements.repeat_agreement.rate,
        "peak_memory_bytes": footprint.peak_memory_bytes,
        "cold_start_ms": float(np.median(costs.cold_starts_ms)),
    }
    edge_answers, _ = _through_bundle(generator, ground.data.rows.edge_cases)
    return Measured(
        measurements, answers, edge_answers, inside, outside, footprint, teacher_footprint, summary
    )


def _through_bundle(
    generator: Generator, rows: Sequence[Any]
) -> tuple[tuple[str | None, ...], np.ndarray]:
    """What the bundle writes (None where it is no answer), and each prompt's boundary score.

    The boundary does not decide here: what it costs is measured apart, as false abstention.
    """
    settings, boundary = generator.settings, generator.boundary
    answers, scores = list[str | None](), list[float]()
    for row in rows:
        turns = [(turn.role, spoken(turn)) for turn in row.prompt]
        found = generator.complete(generator.prompt_ids(turns), settings.max_new_tokens)
        wrong = fault(
            found.text, finished=found.finish == "stop",
            max_new_tokens=settings.max_new_tokens, check=generator.schema_check,
        )  # fmt: skip
        answers.append(None if wrong else settings.response(found.text))
        score_before = boundary.prompt_score(generator.tokenizer.encode(prompt_text(row)))
        scores.append(found.doubt if score_before is None else score_before)
    return tuple(answers), np.array(scores)


def _outside(generator: Generator, texts: Sequence[str]) -> tuple[np.ndarray, Count | None]:
    """Scores of out-of-bounds prompts, and how many get no answer, for whatever reason."""
    if not texts:
        return np.array([]), None
    found = generator.predict(list(texts))
    # What is refused before it is scored is as far out as can be.
    scores = np.array([f.score if f.score is not None else np.inf for f in found])
    return scores, Count(sum(f.abstained for f in found), len(found))


def _repeated(generator: Generator, texts: Sequence[str]) -> Count:
    first, second = generator.predict(list(texts)), generator.predict(list(texts))
    return Count(sum(a == b for a, b in zip(first, second, strict=True)), len(texts))
