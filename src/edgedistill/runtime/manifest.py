"""The manifest of a bundle: what it holds, what it promises, where it comes from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgedistill.core.errors import BundleError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MANIFEST_DIGEST = "manifest.sha256"
MODEL = "model.onnx"
LITERT_MODEL = "model.tflite"
LANGUAGE_MODEL = "model.gguf"
TOKENIZER = "tokenizer.json.gz"
GUARD = "guard.json"
GUARD_ARRAYS = "guard.npz"
GOLDEN = "golden.jsonl"
MODEL_CARD = "MODEL_CARD.md"
MODEL_FILES = {
    "classification": (MODEL, LITERT_MODEL),
    "extraction": (MODEL, LITERT_MODEL),
    "generation": (LANGUAGE_MODEL, MODEL),
}
"""The file with the network, by kind of task: one of these."""
BATCHING = ("single", "padded")


@dataclass(frozen=True)
class InputLimits:
    """What may be asked; anything else is refused before the model runs.

    `min_characters` counts after trimming, `max_characters` before. `languages`: ISO 639-1
    codes; empty means that no language is refused.
    """

    min_characters: int
    max_characters: int
    max_tokens: int
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileEntry:
    """Digest and size of one file."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`.

    Args:
        kind: kind of task; names the runner.
        name: name of the task.
        task: the resolved task file.
        labels: answers, in the order of the logits: of an extraction, the tags of tokens; none
            for generated text.
        input: limits of an input.
        batching: `single` runs one text at a time, so that an answer never depends on its
            batch-mates (dynamic INT8 quantises the activations of the whole batch together);
            `padded` runs batches of similar length.
        threads: threads that the measurements were taken on, and the default for running.
        pad_id: token id that fills shorter rows of a batch.
        golden_tolerance: largest absolute difference of a golden example's logits; for texts,
            largest share of golden examples that may be answered otherwise.
        generation: what a generation bundle needs beside its files (see
            `runtime.generation.settings`); empty for other kinds.
        extraction: likewise for an extraction bundle (see `runtime.extraction.fields`).
        requirements: the judgements of the verdict.
        measurements: what was measured on these very files.
        provenance: data fingerprint, teacher, seeds, versions.
        files: every other file by name.
    """

    kind: str
    name: str
    task: Mapping[str, Any]
    labels: tuple[str, ...]
    input: InputLimits
    batching: str
    threads: int
    pad_id: int
    golden_tolerance: float
    requirements: tuple[Mapping[str, Any], ...] = ()
    measurements: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    extraction: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def model_file(self) -> str:
        """Name of the file with the network."""
        return self.model_among(self.files)

    def model_among(self, files: Collection[str]) -> str:
        """Name of the file with the network among these; where there is none, of the usual one."""
        names = MODEL_FILES.get(self.kind, (MODEL,))
        return next((name for name in names if name in files), names[0])

    @property
    def required_files(self) -> tuple[str, ...]:
        """Files without which the bundle is not whole."""
        return (self.model_file, TOKENIZER, GUARD, GOLDEN, MODEL_CARD)

    def with_files(self, files: Mapping[str, FileEntry]) -> Manifest:
        """The same manifest over other files."""
        return replace(self, files=dict(sorted(files.items())))

    def to_bytes(self) -> bytes:
        """Indented JSON with the schema version first; equal manifests give equal bytes."""
        values = asdict(self)
        ordered = {"schema_version": values.pop("schema_version"), **values}
        return (json.dumps(ordered, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Parse and check; raises BundleError for a newer schema or a malformed manifest."""
        values = _parse(content)
        version = values.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise BundleError(
                f"the bundle has schema {version}; this version reads up to {SCHEMA_VERSION}",
                where=MANIFEST,
                fix="upgrade edgedistill",
            )
        try:
            manifest = _build(values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _malformed(f"{type(error).__name__} {error}") from error
        _require_consistent(manifest)
        return manifest


def newer_schema(content: bytes) -> bool:
    """Whether the bytes are a manifest of a schema that this version cannot read."""
    try:
        version = _parse(content).get("schema_version")
    except BundleError:
        return False
    return isinstance(version, int) and version > SCHEMA_VERSION


def _parse(content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError as error:
        raise _malformed("it is not JSON") from error
    if not isinstance(values, dict):
        raise _malformed("it is not a JSON object")
    return values


def _build(values: dict[str, Any]) -> Manifest:
    limits = values["input"]
    return Manifest(
        schema_version=int(values["schema_version"]),
        kind=str(values["kind"]),
        name=str(values["name"]),
        task=dict(values["task"]),
        labels=tuple(str(label) for label in values["labels"]),
        input=InputLimits(
            min_characters=int(limits["min_characters"]),
            max_characters=int(limits["max_characters"]),
            max_tokens=int(limits["max_tokens"]),
            languages=tuple(limits["languages"]),
        ),
        batching=str(values["batching"]),
        threads=int(values["threads"]),
        pad_id=int(values["pad_id"]),
        golden_tolerance=float(values["golden_tolerance"]),
        requirements=tuple(dict(judgement) for judgement in values["requirements"]),
        measurements=dict(values["measurements"]),
        provenance=dict(values["provenance"]),
        files={
            str(name): FileEntry(str(entry["sha256"]), int(entry["size_bytes"]))
            for name, entry in values["files"].items()
        },
        generation=dict(values.get("generation", {})),
        extraction=dict(values.get("extraction", {})),
    )


def _require_consistent(manifest: Manifest) -> None:
    limits = manifest.input
    if manifest.batching not in BATCHING:
        raise _malformed(f"batching {manifest.batching!r} is none of {', '.join(BATCHING)}")
    least_labels = 2 if manifest.kind == "classification" else 0
    if manifest.threads < 1 or limits.max_tokens < 1 or len(manifest.labels) < least_labels:
        raise _malformed("threads, max_tokens or labels are out of range")
    if not all(_is_plain_name(name) for name in manifest.files):
        raise _malformed("a file name leads out of the bundle")


def _is_plain_name(name: str) -> bool:
    reserved = {"", ".", "..", MANIFEST, MANIFEST_DIGEST}
    return name not in reserved and not any(mark in name for mark in "/\\:\0")


def _malformed(detail: str) -> BundleError:
    return BundleError(
        f"the manifest is malformed: {detail}", where=MANIFEST, fix="make the bundle again"
    )
