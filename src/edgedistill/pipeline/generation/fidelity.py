"""The ledger of a language model: the same prompts through every hop, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.evaluate.fidelity import Hop
from edgedistill.evaluate.generation_score import score
from edgedistill.pipeline.generation.artefact import Artefact, token_agreement, write_file
from edgedistill.pipeline.generation.divergence import NUM_LIKELIEST, Likeliest, divergence
from edgedistill.pipeline.generation.serving import ask, prompts_of
from edgedistill.pipeline.generation.student import Ground, Student
from edgedistill.pipeline.generation.teacher import context_tokens
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession

#: Validation prompts that go through every hop.
NUM_GOLDEN = 48
FULL = "f32"
#: Least share of tokens equal to the hop before.
LEAST_AGREEMENT = {"f32": 0.995, "f16": 0.98, "q8_0": 0.95}


@dataclass(frozen=True)
class _Written:
    """One greedy answer."""

    text: str
    ids: tuple[int, ...] | None
    num_new: int


@dataclass(frozen=True)
class _Station:
    """What a hop answers, and what it holds likely in place of each token of the right answers.

    `against`: the station before it on the way; None for the first. `own`: what it holds likely is
    measured on it, not taken over from the station before.
    """

    name: str
    answers: tuple[Any, ...]
    likeliest: Likeliest
    against: _Station | None = None
    bar: float | None = None
    note: str = ""
    own: bool = True


@dataclass(frozen=True)
class _Golden:
    """The golden rows: prompts, whole rows, right answers."""

    ground: Ground
    rows: tuple[Any, ...]
    prompts: list[list[int]]
    whole: tuple[Any, ...]

    @property
    def right(self) -> np.ndarray:
        """Ids of all tokens of the right answers."""
        return np.concatenate([row.ids[1:][row.learned[1:]] for row in self.whole])

    def likeliest(self, of_row: Callable[[Sequence[int]], Likeliest]) -> Likeliest:
        """What a model holds likely in place of each of them."""
        found = []
        for row in self.whole:
            places = np.flatnonzero(row.learned[1:])
            told = of_row(row.ids.tolist())
            found += [told[int(place)] for place in places]
        return found


def keep_ledger(
    ground: Ground, student: Student, artefact: Artefact, generator: Generator, folder: Path
) -> list[Hop]:
    """Teacher, student, student as GGUF in full precision, every type that was tried, the bundle.

    Every type is compared with full precision, and only the one that ships has a bar. Up to the
    bundle the models write freely; the task's schema then has a hop of its own.

    Args:
        folder: for the full-precision file.
    """
    rows = ground.data.rows.validation[:NUM_GOLDEN]
    whole = tuple(ground.teacher.encoder.encode(row) for row in rows)
    golden = _Golden(ground, rows, prompts_of(ground, rows), whole)
    model = student.load()
    stations = [_in_torch(golden, "teacher", ground.teacher.load(), None)]
    stations.append(_in_torch(golden, "student", model, stations[-1]))
    full = folder / "full.gguf"
    write_file(ground, model, full, FULL)
    whole_precision = _in_llama_cpp(golden, FULL, full, stations[-1], bar=LEAST_AGREEMENT[FULL])
    full.unlink()
    stations.append(whole_precision)
    declined = [v for v in artefact.variants if not v.kept and v.kind != FULL]
    stations += [
        _in_llama_cpp(golden, v.kind, artefact.file(v.kind), whole_precision, note=v.reason)
        for v in declined
    ]
    kind, shipped = artefact.chosen.kind, whole_precision
    if kind != FULL:
        bar = LEAST_AGREEMENT.get(kind)
        shipped = _in_llama_cpp(golden, kind, artefact.file(), whole_precision, bar=bar)
        stations.append(shipped)
    stations += _through_bundle(golden, artefact.file(), shipped, generator)
    return [_hop(golden, station, stations[0]) for station in stations]


def _hop(golden: _Golden, station: _Station, first: _Station) -> Hop:
    before, right = station.against, golden.right
    expected = [row.response for row in golden.rows]
    logprobs = _of_right(station, right)
    perplexity = float(np.exp(-logprobs.mean()))
    agreement = change = more = kl = None
    if before is not None:
        agreement = token_agreement(station.answers, before.answers)
        previous = _of_right(before, right)
        change = float(np.abs(logprobs - previous).max())
        more = perplexity - float(np.exp(-previous.mean()))
        kl = divergence(before.likeliest, station.likeliest)
    # Another model answers otherwise: only what should change nothing has a bar.
    holds = station.bar is None or agreement is None or agreement >= station.bar
    note = station.note
    if not holds:
        note = f"{agreement:.2%} of the tokens equal, at least {station.bar:.2%} required"
    return Hop(
        name=station.name,
        agreement=agreement,
        agreement_with_first=token_agreement(station.answers, first.answers) if before else None,
        score=score(
            golden.ground.context.spec.output.scored_by,
            [answer.text for answer in station.answers],
            expected,
        ),
        logit_difference=change if station.own else None,
        holds=holds,
        note=note,
        perplexity=perplexity if station.own else None,
        perplexity_change=more if station.own else None,
        divergence=kl if station.own else None,
    )


def _of_right(station: _Station, right: np.ndarray) -> np.ndarray:
    """Log-probability of each token of the right answers, float64."""
    return np.array([one[int(i)] for one, i in zip(station.likeliest, right, strict=True)])


def _in_torch(golden: _Golden, name: str, model: Any, against: _Station | None) -> _Station:
    from edgedistill.models.language.decoding import greedy_ids, likeliest

    ground = golden.ground
    tokenizer, limit = ground.teacher.tokenizer, ground.context.spec.output.max_new_tokens
    answers = []
    for ids in golden.prompts:
        new = greedy_ids(model, ids, max_new_tokens=limit, end_id=tokenizer.end)
        answers.append(_Written(tokenizer.decode(new), tuple(new), len(new)))
    found = golden.likeliest(lambda ids: likeliest(model, ids, NUM_LIKELIEST))
    return _Station(name, tuple(answers), found, against)


def _in_llama_cpp(
    golden: _Golden,
    kind: str,
    file: Path,
    against: _Station,
    *,
    bar: float | None = None,
    note: str = "",
) -> _Station:
    ground = golden.ground
    answers = ask(ground, file, golden.prompts, constrained=False).completions
    spec = ground.context.spec
    with LlamaCppSession(
        file, threads=spec.requirements.threads, context=context_tokens(spec)
    ) as session:
        found = golden.likeliest(lambda ids: session.likeliest(ids, NUM_LIKELIEST))
    if bar is None:
        note = f"declined: {note}; " if note else ""
        note += f"compared with {against.name}"
    return _Station(f"GGUF {kind}", answers, found, against, bar, note)


def _through_bundle(
    golden: _Golden, file: Path, shipped: _Station, generator: Generator
) -> list[_Station]:
    """The schema, if there is one, and the bundle with its own tokenizer and frames: the same file
    must answer the same."""
    stations = []
    if generator.settings.schema is not None:
        answers = ask(golden.ground, file, golden.prompts).completions
        stations.append(_Station("by the schema", answers, shipped.likeliest, shipped, own=False))
    limit = generator.settings.max_new_tokens
    framed = [
        generator.prompt_ids([(turn.role, turn.content) for turn in row.prompt])
        for row in golden.rows
    ]
    answers = tuple(generator.complete(ids, limit) for ids in framed)
    found = golden.likeliest(lambda ids: generator.session.likeliest(ids, NUM_LIKELIEST))
    before = stations[-1] if stations else shipped
    return [*stations, _Station("bundle", answers, found, before, 1.0)]
