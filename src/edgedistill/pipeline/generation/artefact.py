"""Stage `artefact`: export a student in several types of weights, GGUF or ONNX, keep the smallest
that answers as well. Each is the file that would ship, run in its own runtime, on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.events import Event
from edgedistill.core.files import read_json, write_json
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.evaluate.generation_score import retention, score
from edgedistill.pipeline.generation.calibration import Calibration, calibrate, told
from edgedistill.pipeline.generation.reader import Reader
from edgedistill.pipeline.generation.rounding import PASSES, write_rounded
from edgedistill.pipeline.generation.serving import Asked, ask, prompts_of, search_of
from edgedistill.pipeline.generation.student import Ground, Student
from edgedistill.pipeline.stages.bounds import with_tuples
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.generation.completion import Completion

ROOMS = ("compress", "export", "models/language", "runtime", "evaluate", "pipeline/generation")
#: Validation prompts that every type is asked.
NUM_ASKED = 200
#: What a type may cost of the score of full precision …
MOST_LOST_SCORE = 0.005
#: … and the least share of tokens that it leaves as full precision writes them, freely and
#: greedily: a score of 200 answers alone lets a type pass that answers a third of them otherwise,
#: some better, some worse, and a schema hides what tips. Some types should change nothing.
LEAST_AGREEMENT = 0.95
SAME = {"f32": 0.995, "f16": 0.98, "onnx_f32": 0.995}
#: Validation prompts that it is measured on. They are those of the ledger, which judges what ships
#: by the same figure.
NUM_GOLDEN = 48


@dataclass(frozen=True)
class Variant:
    """One type of weights, measured on validation.

    `agreement`: share of tokens equal to those of full precision, written freely and greedily.
    `fallbacks`: formats that stand in for the type where its blocks do not divide a matrix.
    `retention`: share of the first type's score that it keeps, paired by row, with its bounds
    (value, low, high); None where that scores nothing.
    """

    kind: str
    size_bytes: int
    score: float
    agreement: float
    p50_ms: float
    p95_ms: float
    tokens_per_s: float
    fallbacks: str
    kept: bool = False
    reason: str = ""
    retention: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Artefact:
    """The file that would ship, and what was tried on the way."""

    stage: StageResult
    chosen: Variant
    variants: tuple[Variant, ...]

    def file(self, kind: str | None = None) -> Path:
        """The file of a type; None: the one that ships."""
        return self.stage.folder / _file_name(kind or self.chosen.kind)


def make_artefact(ground: Ground, student: Student) -> Artefact:
    """Write every type that the task names, measure, choose."""
    spec = ground.context.spec
    required = spec.requirements
    inputs = {
        "student": student.stage.fingerprint,
        "types": list(spec.student.weight_types),
        "limits": {"size_mb": required.size_mb, "p95_ms": required.latency_p95_ms},
        "threads": required.threads,
        "max_new_tokens": spec.output.max_new_tokens,
        "search": search_of(spec),
        "confidence": required.confidence,
    }

    def compute(folder: Path) -> None:
        rows = ground.data.rows.validation[:NUM_ASKED]
        expected, prompts = [row.response for row in rows], prompts_of(ground.reader, rows)
        model = student.load()
        calibration = calibrate(ground, model, folder)
        full = _in_full_precision(ground, model, prompts, folder)
        variants: list[Variant] = []
        first: Sequence[str | None] = []
        for kind in spec.student.weight_types:
            path = folder / _file_name(kind)
            written = write_file(ground, ground.reader, model, path, kind, calibration)
            asked = ask(ground, ground.reader, path, prompts)
            same = token_agreement(_freely(ground, path, prompts), full[full_precision(kind)])
            value = score(spec.output.scored_by, asked.answers, expected)
            first = first or asked.answers
            kept = _retention(spec, first, asked.answers, expected)
            variants.append(replace(_measured(kind, written, asked, same, value), retention=kept))
        chosen = choose(variants, required)
        for variant in chosen:
            note = "kept" if variant.kept else f"declined: {variant.reason}"
            note += f" ({variant.fallbacks})" if variant.fallbacks else ""
            ground.context.listener(Event("artefact", "note", f"{variant.kind} {note}"))
        write_json(folder / "variants.json", [asdict(v) for v in chosen])

    stage = ground.context.store.stage("artefact", inputs, compute, rooms=ROOMS)
    rows: list[dict[str, Any]] = read_json(stage.folder / "variants.json")
    variants = tuple(Variant(**with_tuples(row)) for row in rows)
    return Artefact(stage, next(v for v in variants if v.kept), variants)


def _retention(
    spec: GenerationSpec,
    first: Sequence[str | None],
    answers: Sequence[str | None],
    expected: Sequence[str],
) -> tuple[float, float, float] | None:
    metric, confidence = spec.output.scored_by, spec.requirements.confidence
    if score(metric, first, expected) == 0.0:
        return None
    kept = retention(metric, first, answers, expected, confidence=confidence)
    return kept.value, kept.low, kept.high


def _in_full_precision(
    ground: Ground, model: Any, prompts: Sequence[Sequence[int]], folder: Path
) -> dict[str, Sequence[Completion]]:
    """What the student writes as a file that changes no weight, by that file's type."""
    found = {}
    kinds = ground.context.spec.student.weight_types
    for kind in dict.fromkeys(full_precision(each) for each in kinds):
        path = folder / f"full{suffix(kind)}"
        write_file(ground, ground.reader, model, path, kind)
        found[kind] = _freely(ground, path, prompts)
        path.unlink()
    return found


def _freely(ground: Ground, path: Path, prompts: Sequence[Sequence[int]]) -> Sequence[Completion]:
    """What a file writes to the golden prompts, greedily and without the task's schema."""
    golden = prompts[:NUM_GOLDEN]
    return ask(ground, ground.reader, path, golden, constrained=False).completions


def least_agreement(kind: str) -> float:
    """Least share of tokens that a type leaves as full precision writes them."""
    return SAME.get(kind, LEAST_AGREEMENT)


def write_file(
    ground: Ground,
    reader: Reader,
    model: Any,
    path: Path,
    kind: str,
    calibration: Calibration | None = None,
) -> Any:
    """A model of the run, and how it reads, as one file, GGUF or ONNX by its type of weights.

    GGUF's types of blocks, and ONNX's of four bits but the plain one, are rounded by `calibration`.
    """
    fitted = calibration or Calibration()
    if kind in PASSES:
        return write_rounded(model, to=path, kind=kind, rows=fitted.rows)
    if is_onnx(kind):
        from edgedistill.export.onnx_language import write_onnx_language

        return write_onnx_language(model, to=path, kind=kind)
    from edgedistill.export.gguf import write_gguf
    from edgedistill.tasks.generation.jinja import jinja_of

    encoder = reader.encoder
    return write_gguf(
        model, encoder.tokenizer, to=path, kind=kind, name=ground.context.spec.name,
        chat_template=jinja_of(encoder.template), importance=fitted.importance,
    )  # fmt: skip


def is_onnx(kind: str) -> bool:
    """Whether a type of weights is one of ONNX."""
    return kind.startswith("onnx_")


def suffix(kind: str) -> str:
    """How the names of files of a type end."""
    return ".onnx" if is_onnx(kind) else ".gguf"


def full_precision(kind: str) -> str:
    """The type of the same format that changes no weight."""
    return "onnx_f32" if is_onnx(kind) else "f32"


def format_name(kind: str) -> str:
    """A type as people read it, such as "GGUF q8_0" or "ONNX int8"."""
    return f"ONNX {kind.removeprefix('onnx_')}" if is_onnx(kind) else f"GGUF {kind}"


def _file_name(kind: str) -> str:
    return f"{kind}{suffix(kind)}"


def token_agreement(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Share of tokens equal up to where two answers first part, over all answers.

    After the first difference two greedy answers are answers to different questions, so what
    comes behind it counts as different. An answer whose ids the runtime does not tell is compared
    as a whole.
    """
    same = total = 0
    for a, b in zip(first, second, strict=True):
        if a.ids is None or b.ids is None:
            longest = max(a.num_new, b.num_new)
            same, total = same + (longest if a.text == b.text else 0), total + longest
            continue
        longest = max(len(a.ids), len(b.ids))
        equal = next((i for i, (x, y) in enumerate(zip(a.ids, b.ids, strict=False)) if x != y),
                     min(len(a.ids), len(b.ids)))  # fmt: skip
        same, total = same + equal, total + longest
    return same / max(1, total)


def choose(variants: Sequence[Variant], required: Any) -> list[Variant]:
    """Mark the smallest type that keeps the score and fits the limits; the others get a reason."""
    full = variants[0]

    def fault(v: Variant) -> str:
        if v.score < full.score - MOST_LOST_SCORE:
            return f"costs quality: score {full.score:.4f} → {v.score:.4f}"
        if v.agreement < least_agreement(v.kind):
            return f"changes {1 - v.agreement:.1%} of the tokens"
        if required.latency_p95_ms is not None and v.p95_ms > required.latency_p95_ms:
            return f"p95 {v.p95_ms:.1f} ms is over the latency asked for"
        return ""

    sound = [v for v in variants if not fault(v)] or [full]
    best = min(sound, key=lambda v: v.size_bytes)
    return [
        Variant(**{**asdict(v), "kept": v is best, "reason": "" if v is best else (
            fault(v) or f"{best.kind} is smaller and answers as well")})
        for v in variants
    ]  # fmt: skip


def _measured(kind: str, written: Any, asked: Asked, same: float, value: float) -> Variant:
    whole = [c.prompt_ms + c.new_ms for c in asked.completions]
    new_tokens = sum(c.num_new for c in asked.completions)
    return Variant(
        kind=kind,
        size_bytes=written.size_bytes,
        score=value,
        agreement=same,
        p50_ms=float(np.percentile(whole, 50)),
        p95_ms=float(np.percentile(whole, 95)),
        tokens_per_s=1000.0 * new_tokens / sum(c.new_ms for c in asked.completions),
        fallbacks=told(written.fallbacks),
    )
