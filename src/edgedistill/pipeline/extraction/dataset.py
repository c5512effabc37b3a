"""Stage `data`: read texts with spans, lay them on the teacher's token grid, look at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.errors import DataError
from edgedistill.core.extraction import Document, Documents, TextLabel
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.files import read_json, sha256_of, write_json
from edgedistill.data.document_report import DocumentReport, report_on_documents
from edgedistill.data.documents import DocumentColumns, read_documents
from edgedistill.data.malformed import set_aside
from edgedistill.data.reading import read_examples
from edgedistill.models.teachers.sources import TOKENIZER, resolve_teacher
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.extraction.fields import Field
from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError
from edgedistill.tasks.classification import TextEncoder
from edgedistill.tasks.extraction.encoding import DocumentEncoder

SPLITS = ("train", "validation", "test")
QUARANTINE = "quarantine-{split}.jsonl"
ROOMS = (
    "data", "core/extraction", "runtime/extraction", "runtime/tokenizer", "tasks/extraction",
    "pipeline/extraction/dataset",
)  # fmt: skip


@dataclass(frozen=True)
class PreparedDocuments:
    """The rows, what was found in them, and the stage that made them."""

    rows: Documents
    findings: tuple[tuple[str, str], ...]
    stage: StageResult


def fields_of(spec: ExtractionSpec) -> tuple[Field, ...]:
    """The task's fields as the bundle will know them."""
    return tuple(
        Field(field.name, field.normaliser, field.many, field.required, field.settings())
        for field in spec.output.fields
    )


def encoder_of(
    spec: ExtractionSpec, source: Path, labels: Sequence[TextLabel] = ()
) -> DocumentEncoder:
    """The tokenizer of a model folder, for the task's fields and labels."""
    names = [field.name for field in spec.output.fields]
    return DocumentEncoder(TextEncoder(source / TOKENIZER, spec.input.max_tokens), names, labels)


def prepare_documents(context: Context[ExtractionSpec]) -> PreparedDocuments:
    """Read the task's rows once; a second run finds them."""
    spec = context.spec
    source = resolve_teacher(spec.teacher.source, root=context.root, sha256=spec.teacher.sha256)
    inputs = {
        "data": spec.data.model_dump(mode="json"),
        "outside": spec.boundary.out_of_bounds.model_dump(mode="json"),
        "edge_cases": spec.boundary.edge_cases,
        "output": spec.output.model_dump(mode="json"),
        "tokenizer": sha256_of(source / TOKENIZER),
        "max_tokens": spec.input.max_tokens,
        "files": {
            str(path): sha256_of(path) for path in task_files(context.root, spec) if path.is_file()
        },
    }

    def compute(folder: Path) -> None:
        encoder = encoder_of(spec, source)
        rows, report = load_documents(spec, context.root, encoder, quarantine=folder)
        write_json(folder / "documents.json", _as_json(rows))
        write_json(folder / "report.json", report.as_json())
        write_json(folder / "findings.json", [list(finding) for finding in report.findings()])

    stage = context.store.stage("data", inputs, compute, rooms=ROOMS)
    return PreparedDocuments(
        _from_json(read_json(stage.folder / "documents.json")),
        tuple((s, text) for s, text in read_json(stage.folder / "findings.json")),
        stage,
    )


def load_documents(
    spec: ExtractionSpec, root: Path, encoder: DocumentEncoder, *, quarantine: Path
) -> tuple[Documents, DocumentReport]:
    """Every row that a task names.

    Args:
        quarantine: folder for malformed rows, if the task asks for one.

    Raises:
        DataError: files or rows are wrong.
    """
    columns = DocumentColumns(
        spec.data.text_column, spec.data.spans_column, spec.data.id_column,
        tuple(label.key for label in spec.output.labels),
    )  # fmt: skip
    names = {field.name: field.many for field in spec.output.fields}
    values = [label.values for label in spec.output.labels]
    aside = spec.data.on_malformed == "quarantine"

    def read(name: str, split: str | None = None) -> tuple[Document, ...]:
        place = quarantine / QUARANTINE.format(split=split) if aside and split else None
        return read_documents(
            root / name, labels=names, columns=columns, values=values, quarantine=place,
            fault=encoder.fault,
        )  # fmt: skip

    def texts(name: str | None) -> tuple[str, ...]:
        if name is None:
            return ()
        rows = read_examples(root / name, text_column=spec.data.text_column, label_column=None)
        return tuple(row.text for row in rows)

    bounds = spec.boundary.out_of_bounds
    outside = {split: texts(getattr(bounds, split)) for split in SPLITS}
    train = read(spec.data.files.train, "train")
    labels = _labels_of(spec, train, root / spec.data.files.train)
    # What the training rows do not have cannot be learned, and is told of the other splits.
    values = [label.values for label in labels]
    rows = Documents(
        train=train,
        **{split: read(str(getattr(spec.data.files, split)), split) for split in SPLITS[1:]},
        unlabelled=texts(spec.data.unlabelled),
        edge_cases=read(spec.boundary.edge_cases) if spec.boundary.edge_cases else (),
        outside={split: found for split, found in outside.items() if found},
        labels=labels,
    )
    malformed = {split: set_aside(quarantine / QUARANTINE.format(split=split)) for split in SPLITS}
    required = {field.name: field.required for field in spec.output.fields}
    return rows, report_on_documents(rows, required, _no_value(spec, rows), malformed)


def _labels_of(
    spec: ExtractionSpec, train: Sequence[Document], path: Path
) -> tuple[TextLabel, ...]:
    """The labels of whole texts with their values; raises DataError for one without a choice."""
    found = []
    for place, label in enumerate(spec.output.labels):
        values = label.values or tuple(sorted({row.labels[place] for row in train}))
        if len(values) < 2:
            raise DataError(
                f"every row has the {label.name} {values[0][:60]!r}: there is nothing to tell",
                where=str(path),
                fix=f"rows with several values, or leave output.labels.{place} out",
            )
        found.append(TextLabel(label.name, values))
    return tuple(found)


def _no_value(spec: ExtractionSpec, rows: Documents) -> dict[str, list[str]]:
    """Why spans give no value, by field: a normaliser that does not suit its data shows here."""
    reasons: dict[str, list[str]] = {}
    for field in fields_of(spec):
        found = reasons[field.name] = []
        for split in SPLITS:
            for words in (w for row in rows.split(split) for w in row.texts_of(field.name)):
                try:
                    field.value(words)
                except NotNormalisedError as error:
                    found.append(str(error))
    return reasons


def task_files(root: Path, spec: ExtractionSpec) -> list[Path]:
    """Every data file that a task names."""
    files, bounds = spec.data.files, spec.boundary.out_of_bounds
    names = [files.train, files.validation, files.test, spec.data.unlabelled]
    names += [bounds.train, bounds.validation, bounds.test, spec.boundary.edge_cases]
    return [root / name for name in names if name is not None]


def _as_json(rows: Documents) -> dict[str, Any]:
    splits = (*SPLITS, "edge_cases")
    return {
        **{split: [row.as_json() for row in rows.split(split)] for split in splits},
        "unlabelled": rows.unlabelled,
        "outside": rows.outside,
        "labels": [asdict(label) for label in rows.labels],
    }


def _from_json(value: dict[str, Any]) -> Documents:
    splits = (*SPLITS, "edge_cases")
    return Documents(
        **{split: tuple(Document.from_json(row) for row in value[split]) for split in splits},
        unlabelled=tuple(value["unlabelled"]),
        outside={split: tuple(found) for split, found in value["outside"].items()},
        labels=tuple(TextLabel(one["name"], tuple(one["values"])) for one in value["labels"]),
    )
