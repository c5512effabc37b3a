"""Write examples, and tell one data set from another by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.files import write_text


def write_examples(path: Path, examples: Iterable[Example]) -> None:
    """Write JSON Lines with the keys id, text and label (left out where None), atomically.

    `read_examples` with `id_column="id"` reads the same examples back.
    """
    write_text(path, "".join(_line(example) for example in examples))


def fingerprint_of(dataset: Dataset) -> str:
    """SHA-256 hex digest of labels and rows (split, order, id, text, label)."""
    digest = hashlib.sha256(json.dumps(dataset.labels).encode())
    for split, examples in splits_of(dataset):
        digest.update(json.dumps([split, len(examples)]).encode())
        for example in examples:
            digest.update(json.dumps([example.id, example.text, example.label]).encode())
    return digest.hexdigest()


def splits_of(dataset: Dataset) -> Iterator[tuple[str, tuple[Example, ...]]]:
    """Every split that has rows, by name; out-of-bounds ones as `out_of_bounds.NAME`."""
    for name in ("train", "validation", "test", "unlabelled", "edge_cases"):
        if examples := getattr(dataset, name):
            yield name, examples
    for name in sorted(dataset.out_of_bounds):
        if examples := dataset.out_of_bounds[name]:
            yield f"out_of_bounds.{name}", examples


def _line(example: Example) -> str:
    fields = {"id": example.id, "text": example.text}
    if example.label is not None:
        fields["label"] = example.label
    return json.dumps(fields, ensure_ascii=False) + "\n"
