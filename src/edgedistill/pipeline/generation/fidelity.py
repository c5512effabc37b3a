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
    NUM_GOLDEN,
    Artefact,
    format_name,
    full_precision,
    least_agreement,
    suffix,
    token_agreement,
    write_file,
)
from edgedistill.pipeline.generation.divergence import NUM_LIKELIEST, Likeliest, divergence
from edgedistill.pipeline.generation.reader import Reader
from edgedistill.pipeline.generation.serving import ask, open_model, prompts_of
from edgedistill.pipeline.generation.student import Ground, Student
from edgedistill.runtime.generation.generator import Generator
from edgedistill.tasks.generation.sections import spoken

#: Share by which a type may raise the perplexity of the right answers.
MOST_PERPLEXITY = 0.03
#: What is told of a student with a vocabulary of its own.
OTHER_TOKENS = (
    "other tokens than the teacher's: agreement with it and the divergence from it cannot be told, "
    "and perplexities a token are not comparable"
)


@dataclass(frozen=True)
class _Written:
    """One greedy answer."""

    text: str
    ids: tuple[int, ...] | None
    num_new: int


@dataclass(frozen=True)
class _Golden:
    """The golden rows as one tokenizer reads them: prompts, whole rows, right answers, and what of
    a text is the answer."""

    ground: Ground
    reader: Reader
    rows: tuple[Any, ...]
    prompts: list[list[int]]
    whole: tuple[Any, ...]
    response: Callable[[str], str | None]

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


@dataclass(frozen=True)
class _Station:
    """What a hop answers, and what it holds likely in place of each token of the right answers.

    `golden`: the rows in its own tokens; two hops whose tokens are others are not compared.
    `against`: the station before it on the way; None for the first. `bar`: least share of tokens
    equal to it; with one, the perplexity has its bar too. `own`: what it holds likely is measured
    on it, not taken over from the station before.
    """

    name: str
    golden: _Golden
    answers: tuple[Any, ...]
    likeliest: Likeliest
    against: _Station | None = None
    bar: float | None = None
    note: str = ""
    own: bool = True


def keep_ledger(
    ground: Ground, student: Student, artefact: Artefact, generator: Generator, folder: Path
) -> list[Hop]:
    """Teacher, student, student as a file in full precision, every type that was tried, the bundle.

    Every type is compared with full precision of its format, and only the one that ships has a
    bar. Up to the bundle the models write freely and greedily; the task's schema and beams then
    have a hop of their own.

    Args:
        folder: for the full-precision files.
    """
    rows = ground.data.rows.validation[:NUM_GOLDEN]
    response = generator.settings.response
    golden = _read(ground, ground.reader, rows, response)
    shared = ground.own_reader is None
    of_teacher = golden if shared else _read(ground, ground.teacher, rows, response)
    model = student.load()
    stations = [_in_torch(of_teacher, "teacher", ground.teacher.load(), None)]
    note = "" if shared else OTHER_TOKENS
    stations.append(_in_torch(golden, "student", model, stations[-1], note))
    full = _in_full_precision(golden, artefact, model, stations[-1], folder)
    stations += full.values()
    for v in artefact.variants:
        if not v.kept and v.kind not in full:
            against = full[full_precision(v.kind)]
            file = artefact.file(v.kind)
            stations.append(_in_runtime(golden, v.kind, file, against, note=v.reason))
    kind = artefact.chosen.kind
    shipped = full[full_precision(kind)]
    if kind not in full:
        bar = least_agreement(kind)
        shipped = _in_runtime(golden, kind, artefact.file(), shipped, bar=bar)
        stations.append(shipped)
    stations += _through_bundle(golden, artefact.file(), shipped, generator)
    return [_hop(station, stations[0]) for station in stations]


def _read(
    ground: Ground,
    reader: Reader,
    rows: tuple[Any, ...],
    response: Callable[[str], str | None],
) -> _Golden:
    whole = tuple(reader.encoder.encode(row) for row in rows)
    return _Golden(ground, reader, rows, prompts_of(reader, rows), whole, response)


def _in_full_precision(
    golden: _Golden, artefact: Artefact, model: Any, student: _Station, folder: Path
) -> dict[str, _Station]:
    """The student as a file that changes no weight, in each format that was tried, by type."""
    found = {}
    for kind in dict.fromkeys(full_precision(v.kind) for v in artefact.variants):
        file = folder / f"full{suffix(kind)}"
        write_file(golden.ground, golden.reader, model, file, kind)
        found[kind] = _in_runtime(golden, kind, file, student, bar=least_agreement(kind))
        file.unlink()
    return found


def _hop(station: _Station, first: _Station) -> Hop:
    golden, right = station.golden, station.golden.right
    # Ids of two vocabularies are equal by chance alone, and a token is not the same piece of text.
    before = station.against if station.against and station.against.golden is golden else None
    with_first = None
    if station.against is not None and first.golden is golden:
        with_first = token_agreement(station.answers, first.answers)
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
    # Another model answers otherwise: only what should change nothing, or little, has a bar.
    wrong = ""
    if station.bar is not None and agreement is not None and agreement < station.bar:
        wrong = f"{agreement:.2%} of the tokens equal, at least {station.bar:.2%} required"
    elif station.bar is not None and more is not None:
        most = MOST_PERPLEXITY * (perplexity - more)
        if more > most:
            wrong = f"perplexity rises by {more:.4f}, {most:.4f} is allowed"
    return Hop(
        name=station.name,
        agreement=agreement,
        agreement_with_first=with_first,
        score=score(
            golden.ground.context.spec.output.scored_by,
            [golden.response(answer.text) for answer in station.answers],
            expected,
        ),
        logit_difference=change if station.own else None,
        holds=not wrong,
        note=wrong or station.note,
        perplexity=perplexity if station.own else None,
        perplexity_change=more if station.own else None,
        divergence=kl if station.own else None,
    )


def _of_right(station: _Station, right: np.ndarray) -> np.ndarray:
    """Log-probability of each token of the right answers, float64."""
    return np.array([one[int(i)] for one, i in zip(station.likeliest, right, strict=True)])


def _in_torch(
    golden: _Golden, name: str, model: Any, against: _Station | None, note: str = ""
) -> _Station:
    from edgedistill.models.language.decoding import greedy_ids, likeliest

    tokenizer = golden.reader.tokenizer
    limit = golden.ground.context.spec.output.max_new_tokens
    answers = []
    for ids in golden.prompts:
        new = greedy_ids(model, ids, max_new_tokens=limit, end_id=tokenizer.end)
        answers.append(_Written(tokenizer.decode(new), tuple(new), len(new)))
    found = golden.likeliest(lambda ids: likeliest(model, ids, NUM_LIKELIEST))
    return _Station(name, golden, tuple(answers), found, against, note=note)


def _in_runtime(
    golden: _Golden,
    kind: str,
    file: Path,
    against: _Station,
    *,
    bar: float | None = None,
    note: str = "",
) -> _Station:
    ground = golden.ground
    reader = golden.reader
    answers = ask(ground, reader, file, golden.prompts, constrained=False).completions
    with open_model(ground.context.spec, reader.encoder, file) as session:
        found = golden.likeliest(lambda ids: session.likeliest(ids, NUM_LIKELIEST))
    if bar is None:
        note = f"declined: {note}; " if note else ""
        note += f"compared with {against.name}"
    return _Station(format_name(kind), golden, answers, found, against, bar, note)


def _through_bundle(
    golden: _Golden, file: Path, shipped: _Station, generator: Generator
) -> list[_Station]:
    """The schema and beams, if there are any, and the bundle with its own tokenizer and frames: the
    same file must answer the same."""
    stations, settings = [], generator.settings
    held = ["by the schema"] * (settings.schema is not None)
    held += [f"{settings.beams} beams"] * (settings.beams > 1)
    if held:
        answers = ask(golden.ground, golden.reader, file, golden.prompts).completions
        name = ", ".join(held)
        stations.append(_Station(name, golden, answers, shipped.likeliest, shipped, own=False))
    limit = settings.max_new_tokens
    framed = [
        generator.prompt_ids([(turn.role, spoken(turn)) for turn in row.prompt])
        for row in golden.rows
    ]
    answers = tuple(generator.complete(ids, limit) for ids in framed)
    found = golden.likeliest(lambda ids: generator.session.likeliest(ids, NUM_LIKELIEST))
    before = stations[-1] if stations else shipped
    return [*stations, _Station("bundle", golden, answers, found, before, 1.0)]
