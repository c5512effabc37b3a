"""Stage `verification`: make the bundle, score the test split once, judge, write the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgedistill.core.artefacts import Judgement
from edgedistill.evaluate.text_boundary import FittedBoundary
from edgedistill.evaluate.verdict import judge
from edgedistill.pipeline.generation.artefact import Artefact, is_onnx, suffix, write_file
from edgedistill.pipeline.generation.content import report_content
from edgedistill.pipeline.generation.fidelity import keep_ledger
from edgedistill.pipeline.generation.measurement import fit, measure
from edgedistill.pipeline.generation.reader import Reader
from edgedistill.pipeline.generation.serving import generation_settings, prompt_text
from edgedistill.pipeline.generation.student import Ground, Student
from edgedistill.pipeline.generation.teacher import described
from edgedistill.pipeline.packaging import machine, versions
from edgedistill.pipeline.verified import (
    ANSWERS,
    ARCHIVE,
    BUNDLE,
    Verified,
    read_verdict,
    write_verdict,
)
from edgedistill.runtime.bundle import write_archive, write_bundle
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.loading import load
from edgedistill.runtime.manifest import (
    GOLDEN,
    LANGUAGE_MODEL,
    MODEL,
    MODEL_CARD,
    TOKENIZER,
    InputLimits,
    Manifest,
)
from edgedistill.runtime.tokenizer import pack_tokenizer
from edgedistill.runtime.verification import golden_examples

NUM_GOLDEN = 32
#: Share of golden texts that may differ on another machine: a kernel rounds differently, two
#: tokens are nearly as likely, and the rest of the answer follows.
GOLDEN_TOLERANCE = 0.1


@dataclass(frozen=True)
class Made:
    """Everything of the run that the verdict and the report look back on."""

    ground: Ground
    student: Student
    control: Student
    artefact: Artefact


def verify(made: Made) -> Verified:
    """Judge the file that ships."""
    ground = made.ground
    inputs = {
        "spec": ground.context.spec.model_dump(mode="json", exclude={"budget"}),
        "artefact": made.artefact.stage.fingerprint,
        "control": made.control.stage.fingerprint,
        "teacher": ground.teacher.stage.fingerprint,
    }
    stage = ground.context.store.stage(
        "verification", inputs, lambda folder: _compute(made, folder),
        rooms=("evaluate", "runtime", "export", "pipeline", "tasks/generation"),
    )  # fmt: skip
    return read_verdict(stage)


def _compute(made: Made, folder: Path) -> None:

    ground = made.ground
    fitted = fit(ground, made.artefact.file())
    _write(made, folder, fitted, [], {})
    generator = cast(Generator, load(folder / BUNDLE))
    kind = made.artefact.chosen.kind
    peers: dict[str, tuple[Path, Reader]] = {
        name: (folder / f"{name}{suffix(kind)}", reader)
        for name, reader in (("teacher", ground.teacher), ("control", ground.reader))
    }
    wide = "onnx_f32" if is_onnx(kind) else "f16"
    for (file, reader), load_peer in zip(
        peers.values(), (ground.teacher.load, made.control.load), strict=True
    ):
        write_file(ground, reader, load_peer(), file, wide)
    measured = measure(ground, folder / BUNDLE, generator, fitted, peers)
    measured.summary["types"] = ", ".join(
        f"{v.kind} {v.score:.4f}{' (ships)' if v.kept else ''}" for v in made.artefact.variants
    )
    hops = keep_ledger(ground, made.student, made.artefact, generator, folder)
    judgements = judge(ground.context.spec.requirements, measured.measurements, hops=hops)
    bundle = _write(made, folder, fitted, judgements, measured.summary)
    write_archive(bundle, folder / ARCHIVE)
    _save_answers(folder, measured.answers, [row.response for row in ground.data.rows.test])
    for file, _ in peers.values():
        file.unlink()
    content = report_content(made, fitted, measured, hops, judgements, bundle)
    write_verdict(folder, content, judgements, measured.summary)


def _write(
    made: Made,
    folder: Path,
    fitted: FittedBoundary,
    judgements: Sequence[Judgement],
    measurements: Mapping[str, Any],
) -> Any:
    """Write the bundle; again with the measurements once they are taken on its files."""
    ground = made.ground
    spec, limits = ground.context.spec, ground.context.spec.input
    settings = generation_settings(spec, ground.reader.encoder, ground.data.rows)
    manifest = Manifest(
        kind=spec.kind,
        name=spec.name,
        task=spec.model_dump(mode="json"),
        labels=(),
        input=InputLimits(
            limits.min_characters, limits.max_characters, limits.max_tokens, limits.languages
        ),
        batching="single",
        threads=spec.requirements.threads,
        pad_id=ground.reader.tokenizer.pad,
        golden_tolerance=GOLDEN_TOLERANCE,
        requirements=tuple(_plain(asdict(j)) for j in judgements),
        measurements=_plain(measurements),
        provenance=_plain(_provenance(made)),
        generation=_plain(settings.as_json()),
    )
    files = {
        MODEL if is_onnx(made.artefact.chosen.kind) else LANGUAGE_MODEL: (
            made.artefact.file().read_bytes()
        ),
        TOKENIZER: pack_tokenizer(ground.reader.encoder.tokenizer.to_str()),
        MODEL_CARD: _model_card(made, judgements).encode(),
        **fitted.boundary.to_files(),
    }
    generator = Generator.from_files(manifest, files)
    golden = [prompt_text(row) for row in ground.data.rows.validation[:NUM_GOLDEN]]
    files[GOLDEN] = golden_examples(generator, golden)
    return write_bundle(folder / BUNDLE, manifest, files)


def _provenance(made: Made) -> dict[str, Any]:
    ground, spec = made.ground, made.ground.context.spec
    return {
        "data fingerprint": ground.data.stage.fingerprint,
        "teacher": f"{spec.teacher.source} {described(ground.teacher.config)}",
        "template": spec.template,
        "student": f"{spec.student.source or spec.student.initialise} "
        f"{described(made.student.config)}",
        "compression": made.artefact.chosen.kind,
        "machine": machine(),
        "seed": spec.seed,
        "versions": versions(),
    }


def _model_card(made: Made, judgements: Sequence[Judgement]) -> str:
    """What the model is for, what it is not for, and how well it does: Markdown."""
    spec = made.ground.context.spec
    lines = [
        f"# {spec.name}",
        "",
        spec.description or "A generation model.",
        "",
        "## In bounds",
        "",
    ]
    languages = ", ".join(spec.input.languages) or "any language"
    lines += [
        f"- Prompts ({languages}) of {spec.input.min_characters} to "
        f"{spec.input.max_characters} characters, at most {spec.input.max_tokens} tokens.",
        f"- Answers ({spec.output.purpose}) of at most {spec.output.max_new_tokens} tokens"
        + (", by the JSON Schema in the manifest." if spec.output.schema_file else "."),
        "",
    ]
    if spec.boundary.non_goals:
        lines += ["## Not for", "", *[f"- {goal}" for goal in spec.boundary.non_goals], ""]
    lines += ["## Measured on the files of this bundle", ""]
    lines += [
        f"- {j.requirement}: {j.measured} (required: {j.required}) — "
        f"{'holds' if j.holds else 'does not hold'}"
        for j in judgements
    ] or ["- not yet measured"]
    lines += ["", "## Made from", ""]
    lines += [f"- {k}: {v}" for k, v in _provenance(made).items() if isinstance(v, str)]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """The value as JSON would give it back: tuples become lists, numbers stay finite."""
    return json.loads(json.dumps(value, allow_nan=False))


def _save_answers(
    folder: Path, answers: Mapping[str, Sequence[str | None]], expected: Sequence[str]
) -> None:
    """Texts on the test split ("" for none), so that scores can be computed again, or pooled."""
    columns: dict[str, Any] = {
        name: np.array([text or "" for text in texts]) for name, texts in answers.items()
    }
    np.savez_compressed(folder / ANSWERS, expected=np.array(list(expected)), **columns)
