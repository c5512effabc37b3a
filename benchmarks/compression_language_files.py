"""A teacher and its cut student as files of ONNX: answers, distances and bytes on the test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import kept_seeds
from edgedistill.cli.progress import PlainLines
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.artefact import make_artefact, write_file
from edgedistill.pipeline.generation.course import prepare_ground
from edgedistill.pipeline.generation.serving import ask, open_model, prompts_of
from edgedistill.pipeline.generation.student import Ground, train_student
from edgedistill.pipeline.store import Store
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.onnx_network import OnnxNetwork
from edgedistill.runtime.generation.sampling import log_softmax
from generation_runtime import Spread, Timed
from kept_seeds import revision

NAME = "compression-language"
#: Before the names of arrays.
_ANSWERS, _DISTANCES = "answers: ", "distances: "
FULL, PLAIN, AWQ = "onnx_f32", "onnx_int4", "onnx_awq_int4"
TYPES = (FULL, "onnx_int8", PLAIN, AWQ, "onnx_gptq_int4")


@dataclass(frozen=True)
class Distances:
    """How far a file is from the student in full precision, by test row.

    `same`, `written`: tokens equal before the first that differs, and tokens, freely and greedily.
    `divergence`: sum of KL(full ‖ file) over the right answer's tokens, in nats; `surprisal`: of
    -log p of these tokens; `learned`: how many they are.
    """

    same: np.ndarray
    written: np.ndarray
    divergence: np.ndarray
    surprisal: np.ndarray
    learned: np.ndarray


@dataclass(frozen=True)
class Measured:
    """One seed. `answers`: texts on the test split ("" for none) by type, of the `teacher`, and
    `expected`; `rates`: tokens a second of the AWQ file over those of another; `validated`: what
    validation said of a type. `revision`: of the code that measured it."""

    seed: int
    revision: str
    parameters: dict[str, int]
    answers: dict[str, np.ndarray]
    distances: dict[str, Distances]
    size_bytes: dict[str, int]
    rates: dict[str, Spread]
    validated: dict[str, str]


def measure(task: Path, work: Path, listener: PlainLines, *, num_timed: int) -> Measured:
    """Teach, cut, train, write every type; the test split is answered once by each file.

    Args:
        num_timed: prompts of a round where speeds are compared.
    """
    spec: Any = load_task(task)
    folder = work / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(work / "store", listener)
    context = Context(spec, task.resolve().parent, folder, store, listener, float("inf"))
    ground = prepare_ground(context)
    student = train_student(ground)
    artefact = make_artefact(ground, student)
    teacher, model = ground.teacher.load(), student.load()
    peer = folder / "teacher.onnx"
    write_file(ground, ground.teacher, teacher, peer, FULL)
    files = {"teacher": peer, **{kind: artefact.file(kind) for kind in TYPES}}
    prompts = prompts_of(ground.reader, ground.data.rows.test)
    answers = {
        name: np.array([text or "" for text in ask(ground, ground.reader, file, prompts).answers])
        for name, file in files.items()
    }
    answers["expected"] = np.array([row.response for row in ground.data.rows.test])
    found = Measured(
        spec.seed,
        revision(),
        {"teacher": _count(teacher), "student": _count(model)},
        answers,
        _distances(ground, files, prompts),
        {name: file.stat().st_size for name, file in files.items()},
        _rates(ground, files, prompts[:num_timed]),
        {
            v.kind: f"{v.score:.4f}, {v.agreement:.1%}, {'ships' if v.kept else v.reason}"
            for v in artefact.variants
        },
    )
    peer.unlink()
    return found


def save(each: Measured) -> None:
    """Keep a seed beside the page."""
    told = {key: value for key, value in vars(each).items() if key not in ("answers", "distances")}
    arrays = {f"{_ANSWERS}{name}": texts for name, texts in each.answers.items()}
    arrays |= {
        f"{_DISTANCES}{name}": np.stack([*vars(rows).values()])
        for name, rows in each.distances.items()
    }
    kept_seeds.save(NAME, each.seed, told, arrays)


def load(seed: int) -> Measured:
    """As `save` kept it."""
    told, arrays = kept_seeds.load(NAME, seed)
    told["rates"] = {name: tuple(rate) for name, rate in told["rates"].items()}

    def of(kind: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(kind): v for k, v in arrays.items() if k.startswith(kind)}

    distances = {name: Distances(*rows) for name, rows in of(_DISTANCES).items()}
    return Measured(**told, answers=of(_ANSWERS), distances=distances)


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _distances(
    ground: Ground, files: Mapping[str, Path], prompts: Sequence[Sequence[int]]
) -> dict[str, Distances]:
    """Of every type of the student."""
    whole = [ground.reader.encoder.encode(row) for row in ground.data.rows.test]
    networks = {kind: OnnxNetwork(files[kind].read_bytes()) for kind in TYPES}
    free = {
        kind: ask(ground, ground.reader, files[kind], prompts, constrained=False).completions
        for kind in TYPES
    }
    sums: dict[str, list[tuple[int, int, float, float, int]]] = {kind: [] for kind in TYPES}
    for number, row in enumerate(whole):
        places = np.flatnonzero(row.learned[1:])
        right = row.ids[1:][places]
        read = {
            kind: log_softmax(_all_logits(network, row.ids)[places])
            for kind, network in networks.items()
        }
        for kind, logs in read.items():
            divergence = np.exp(read[FULL]) * (read[FULL] - logs)
            surprisal = -logs[np.arange(len(right)), right].sum()
            same, written = _same(free[FULL][number].ids or (), free[kind][number].ids or ())
            sums[kind].append(
                (same, written, float(divergence.sum()), float(surprisal), len(right))
            )
    return {kind: Distances(*np.array(rows, float).T) for kind, rows in sums.items()}


def _all_logits(network: OnnxNetwork, ids: np.ndarray) -> np.ndarray:
    """After every token but the last."""
    return network.read(np.asarray(ids[None, :-1], np.int64), network.empty(), every=True)[0][0]


def _same(first: Sequence[int], second: Sequence[int]) -> tuple[int, int]:
    """Tokens equal before the first that differs, and tokens of the longer one."""
    shorter = min(len(first), len(second))
    unequal = (i for i in range(shorter) if first[i] != second[i])
    return next(unequal, shorter), max(len(first), len(second))


def _rates(
    ground: Ground, files: Mapping[str, Path], prompts: Sequence[Sequence[int]]
) -> dict[str, Spread]:
    """The AWQ file against full precision, plain rounding and the teacher, two at a time in turn;
    every one answers by the task's grammar."""
    spec, schema = ground.context.spec, ground.data.rows.schema
    grammar = json_grammar(dict(schema)) if schema is not None else None
    limit = spec.output.max_new_tokens

    def timed(session: Any) -> Timed:
        return Timed(
            lambda i: session.generate(prompts[i], max_new_tokens=limit, grammar=grammar).num_new,
            range(len(prompts)),
        )

    found = {}
    for name in (FULL, PLAIN, "teacher"):
        with (
            open_model(spec, ground.reader.encoder, files[AWQ]) as awq,
            open_model(spec, ground.reader.encoder, files[name]) as other,
        ):
            mine = timed(awq)
            found[name] = mine.faster_than(timed(other))
            found[AWQ] = mine.rate()
    return found
