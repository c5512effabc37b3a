"""Stage `data`: read, validate, split, inspect."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.files import read_json, sha256_of, write_json
from edgedistill.data.inspection import inspect
from edgedistill.data.loading import load_dataset
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.store import StageResult

SPLITS = ("train", "validation", "test", "unlabelled", "edge_cases")
QUARANTINE = "quarantine.jsonl"


@dataclass(frozen=True)
class PreparedData:
    """The rows, what was found in them, and the stage that made them."""

    dataset: Dataset
    inspection: dict[str, Any]
    stage: StageResult


def prepare_data(context: Context) -> PreparedData:
    """Read the task's data once; a second run finds it."""
    spec = context.spec
    inputs = {
        "data": spec.data.model_dump(mode="json"),
        "boundary": spec.boundary.model_dump(mode="json", exclude={"false_abstention_rate"}),
        "labels": spec.output.model_dump(mode="json"),
        "limits": spec.input.model_dump(mode="json"),
        "files": {
            str(path): sha256_of(path) for path in task_files(context.root, spec) if path.is_file()
        },
    }

    def compute(folder: Path) -> None:
        quarantine = folder / QUARANTINE if spec.data.on_malformed == "quarantine" else None
        dataset = load_dataset(spec, root=context.root, quarantine=quarantine)
        report = inspect(dataset, spec)
        write_json(folder / "dataset.json", _as_json(dataset))
        write_json(
            folder / "inspection.json",
            {**report.as_json(), "findings": [list(f) for f in report.findings()]},
        )

    stage = context.store.stage(
        "data", inputs, compute, rooms=("data", "core/artefacts", "pipeline/stages/dataset")
    )
    return PreparedData(
        _from_json(read_json(stage.folder / "dataset.json")),
        read_json(stage.folder / "inspection.json"),
        stage,
    )


def task_files(root: Path, spec: Any) -> list[Path]:
    """Every data file that a task names."""
    files = spec.data.files
    names = [files.train, files.validation, files.test] if files else []
    bounds = spec.boundary.out_of_bounds
    names += [spec.data.unlabelled, spec.boundary.edge_cases]
    names += [bounds.train, bounds.validation, bounds.test]
    return [root / name for name in names if name is not None]


def _as_json(dataset: Dataset) -> dict[str, Any]:
    value: dict[str, Any] = {
        "labels": dataset.labels,
        "num_quarantined": dataset.num_quarantined,
    }
    for split in SPLITS:
        value[split] = [asdict(example) for example in getattr(dataset, split)]
    value["out_of_bounds"] = {
        split: [asdict(example) for example in examples]
        for split, examples in dataset.out_of_bounds.items()
    }
    return value


def _from_json(value: dict[str, Any]) -> Dataset:
    def examples(rows: list[dict[str, Any]]) -> tuple[Example, ...]:
        return tuple(Example(**row) for row in rows)

    return Dataset(
        labels=tuple(value["labels"]),
        num_quarantined=value["num_quarantined"],
        **{split: examples(value[split]) for split in SPLITS},
        out_of_bounds={k: examples(rows) for k, rows in value["out_of_bounds"].items()},
    )
