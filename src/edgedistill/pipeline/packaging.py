"""The bundle: model, tokenizer, guard, golden examples, model card and manifest."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Dataset, Judgement
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.task import TaskSpec
from edgedistill.runtime.bundle import Bundle, write_bundle
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.guard.boundary import Guard
from edgedistill.runtime.manifest import (
    GOLDEN,
    MODEL_CARD,
    TOKENIZER,
    InputLimits,
    Manifest,
)
from edgedistill.runtime.networks import MODEL_OF, runtime_of
from edgedistill.runtime.verification import golden_examples

NUM_GOLDEN = 128
#: Logits may differ by this much between machines: INT8 kernels round differently.
GOLDEN_TOLERANCE = 0.25
PACKAGES = (
    "ai-edge-litert", "edgedistill", "numpy", "onnx", "onnxruntime", "tokenizers", "torch",
    "transformers",
)  # fmt: skip


def golden_rows(targets: np.ndarray, num: int = NUM_GOLDEN) -> np.ndarray:
    """Rows spread over the classes: the first of each class, then the second, …"""
    order = np.argsort(targets, kind="stable")
    rank = np.empty(len(targets), np.int64)
    _, starts, counts = np.unique(targets[order], return_index=True, return_counts=True)
    rank[order] = np.arange(len(targets)) - np.repeat(starts, counts)
    return np.sort(np.lexsort((targets, rank))[:num])


def decided_texts(classifier: Classifier, texts: Sequence[str]) -> list[str]:
    """The half of the texts whose answers are clearest, in their order.

    Kernels round differently on other machines: an answer that hangs on the last bit, between
    two labels or at the guard's threshold, would fail an honest bundle there.
    """
    logits, features = classifier.raw(texts)
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    distance = np.abs(classifier.guard.scores(logits, features) - classifier.guard.threshold)
    doubt = np.minimum(ranks(first - second), ranks(distance))
    clearest = np.argsort(-doubt, kind="stable")[: max(1, len(texts) // 2)]
    return [texts[row] for row in np.sort(clearest)]


def ranks(values: np.ndarray) -> np.ndarray:
    """Position of each value in ascending order."""
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


def machine() -> str:
    """This machine in words."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    return (
        f"{processor}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def versions() -> dict[str, str]:
    """Versions of what made the bundle; packages that are absent are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_task_bundle(
    folder: Path,
    spec: TaskSpec,
    dataset: Dataset,
    *,
    model: bytes,
    tokenizer: bytes,
    pad_id: int,
    guard: Guard,
    golden_texts: Sequence[str],
    batching: str,
    judgements: Sequence[Judgement],
    measurements: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Bundle:
    """Write the bundle folder, whole or not at all."""
    limits = spec.input
    manifest = Manifest(
        kind=spec.kind,
        name=spec.name,
        task=spec.model_dump(mode="json"),
        labels=dataset.labels,
        input=InputLimits(
            limits.min_characters, limits.max_characters, limits.max_tokens, limits.languages
        ),
        batching=batching,
        threads=spec.requirements.threads,
        pad_id=pad_id,
        golden_tolerance=GOLDEN_TOLERANCE,
        requirements=tuple(plain(asdict(j)) for j in judgements),
        measurements=plain(measurements),
        provenance=plain(provenance),
    )
    files = {
        MODEL_OF[runtime_of(model)]: model,
        TOKENIZER: tokenizer,
        MODEL_CARD: model_card(spec, dataset, judgements, provenance).encode(),
        **guard.to_files(),
    }
    classifier = Classifier.from_files(manifest, files)
    files[GOLDEN] = golden_examples(classifier, decided_texts(classifier, golden_texts))
    return write_bundle(folder, manifest, files)


def plain(value: Any) -> Any:
    """The value as JSON would give it back: tuples become lists, numbers stay finite."""
    return json.loads(json.dumps(value, allow_nan=False))


def model_card(
    spec: TaskSpec,
    dataset: Dataset,
    judgements: Sequence[Judgement],
    provenance: Mapping[str, Any],
) -> str:
    """What a classifier is for, what it is not for, and how well it does: Markdown."""
    shown = ", ".join(dataset.labels[:40]) + (", …" if len(dataset.labels) > 40 else "")
    answers = f"Answers one of {len(dataset.labels)} labels: {shown}."
    return card(spec, [answers], judgements, provenance)


def card(
    spec: TaskSpec | ExtractionSpec,
    answers: Sequence[str],
    judgements: Sequence[Judgement],
    provenance: Mapping[str, Any],
) -> str:
    """The model card of a model that reads texts; `answers` are sentences on what it answers."""
    lines = [f"# {spec.name}", "", spec.description or f"A {spec.kind} model.", ""]
    lines += ["## In bounds", ""]
    languages = ", ".join(spec.input.languages) or "any language"
    lines.append(
        f"- Text ({languages}) of {spec.input.min_characters} to {spec.input.max_characters} "
        f"characters, at most {spec.input.max_tokens} tokens."
    )
    if spec.input.domain:
        lines.append(f"- Domain: {spec.input.domain}.")
    lines += [*(f"- {sentence}" for sentence in answers), ""]
    if spec.boundary.non_goals:
        lines += ["## Not for", "", *[f"- {goal}" for goal in spec.boundary.non_goals], ""]
    rate = spec.boundary.false_abstention_rate
    lines += [
        "## Boundary",
        "",
        f"The model abstains where its out-of-bounds score passes a threshold that was set so that "
        f"about {rate:.1%} of in-bounds inputs are refused; it always says why.",
        "",
        "## Measured on the files of this bundle",
        "",
    ]
    lines += [
        f"- {j.requirement}: {j.measured} (required: {j.required}) — "
        f"{'holds' if j.holds else 'does not hold'}"
        for j in judgements
    ] or ["- not yet measured"]
    lines += ["", "## Made from", ""]
    lines += [f"- {name}: {value}" for name, value in provenance.items() if isinstance(value, str)]
    return "\n".join(lines) + "\n"
