"""The bundle of an extraction task: model, tokenizer, guard, golden examples, card, manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Judgement
from edgedistill.pipeline.extraction.artefact import Artefact
from edgedistill.pipeline.extraction.boundary import FittedBoundary
from edgedistill.pipeline.extraction.dataset import fields_of
from edgedistill.pipeline.extraction.student import Ground
from edgedistill.pipeline.packaging import (
    GOLDEN_TOLERANCE,
    NUM_GOLDEN,
    card,
    machine,
    plain,
    ranks,
    versions,
)
from edgedistill.runtime.bundle import Bundle, write_bundle
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.extraction.fields import ExtractionSettings
from edgedistill.runtime.extraction.labels import Label, value_columns
from edgedistill.runtime.extraction.tagging import document_logits
from edgedistill.runtime.manifest import (
    GOLDEN,
    MODEL_CARD,
    TOKENIZER,
    InputLimits,
    Manifest,
)
from edgedistill.runtime.networks import runtime_of
from edgedistill.runtime.verification import golden_examples


def write_extraction_bundle(
    folder: Path,
    ground: Ground,
    artefact: Artefact,
    fitted: FittedBoundary,
    judgements: Sequence[Judgement],
    measurements: Mapping[str, Any],
) -> Bundle:
    """Write the bundle folder, whole or not at all."""
    spec, teacher = ground.context.spec, ground.teacher
    limits = spec.input
    settings = ExtractionSettings(
        fields_of(spec), teacher.whole_words, fitted.least_confidence,
        tuple(
            Label(label.name, label.values, temperature)
            for label, temperature in zip(
                teacher.encoder.labels, fitted.label_temperatures, strict=True
            )
        ),
    )  # fmt: skip
    provenance = _provenance(ground, artefact)
    manifest = Manifest(
        kind=spec.kind,
        name=spec.name,
        task=spec.model_dump(mode="json"),
        labels=teacher.tags,
        input=InputLimits(
            limits.min_characters, limits.max_characters, limits.max_tokens, limits.languages
        ),
        batching="single",
        threads=spec.requirements.threads,
        pad_id=teacher.pad_id,
        golden_tolerance=GOLDEN_TOLERANCE,
        requirements=tuple(plain(asdict(j)) for j in judgements),
        measurements=plain(measurements),
        provenance=plain(provenance),
        extraction=plain(settings.as_json()),
    )
    shown = ", ".join(
        f"{field.name} ({field.normaliser}{', several' if field.many else ''})"
        for field in spec.output.fields
    )
    answers = [
        f"Answers a record of {len(spec.output.fields)} fields: {shown}.",
        "A field that it is too unsure of, or whose words give no value, is left out, and says so.",
    ]
    answers += [
        f"Says the {label.name} of the whole text, in the same pass: one of {len(label.values)} "
        f"values ({', '.join(label.values[:12])}{', …' if len(label.values) > 12 else ''})."
        for label in teacher.encoder.labels
    ]
    files = {
        artefact.model.name: artefact.model.read_bytes(),
        TOKENIZER: teacher.encoder.encoder.packed,
        MODEL_CARD: card(spec, answers, judgements, provenance).encode(),
        **fitted.guard.guard.to_files(),
    }
    extractor = Extractor.from_files(manifest, files)
    texts = ground.data.rows.texts("validation")
    rows = np.linspace(0, len(texts) - 1, min(NUM_GOLDEN, len(texts))).astype(int)
    golden = decided_texts(extractor, [texts[row] for row in rows])
    files[GOLDEN] = golden_examples(extractor, golden)
    return write_bundle(folder, manifest, files)


def decided_texts(extractor: Extractor, texts: Sequence[str]) -> list[str]:
    """The half of the texts whose answers are clearest, in their order.

    Kernels round differently on other machines: an answer that hangs on the last bit, between
    two tags or values or at a threshold, would fail an honest bundle there.
    """
    margins, distances, gaps = list[float](), list[float](), list[float]()
    for text in texts:
        raw = extractor.raw(text)
        columns = value_columns(extractor.settings.labels)
        heads = [raw.logits, *(raw.label_logits[:, place] for place in columns)]
        margins.append(min(_least_margin(logits) for logits in heads))
        score = extractor.guard.scores(document_logits(raw.logits), raw.features)[0]
        distances.append(abs(float(score) - extractor.guard.threshold))
        least = extractor.settings.least_confidence
        spans = extractor.read(raw.grid, raw.logits).spans
        gaps.append(min((abs(span.confidence - least) for span in spans), default=1.0))
    doubt = np.minimum.reduce([ranks(np.array(v)) for v in (margins, distances, gaps)])
    clearest = np.argsort(-doubt, kind="stable")[: max(1, len(texts) // 2)]
    return [texts[row] for row in np.sort(clearest)]


def _least_margin(logits: np.ndarray) -> float:
    """Least distance of the largest logit from the second, of [n, classes]."""
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return float((first - second).min())


def _provenance(ground: Ground, artefact: Artefact) -> dict[str, Any]:
    spec, candidate = ground.context.spec, artefact.student.candidate
    return {
        "data fingerprint": ground.data.stage.fingerprint,
        "teacher": spec.teacher.source,
        "teacher weights sha256": ground.teacher.weights_sha256,
        "student": f"{candidate.family} {json.dumps(candidate.options)}",
        "compression": " + ".join(artefact.chosen.passes) or "none",
        "runtime": runtime_of(artefact.model.read_bytes()),
        "machine": machine(),
        "seed": spec.seed,
        "versions": versions(),
    }
