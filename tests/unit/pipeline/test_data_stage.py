"""The data stage: read once, kept whole, read again where a file or a setting changed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import small_task
from edgedistill.core.errors import DataError
from edgedistill.core.events import silent
from edgedistill.core.task_file import load_task
from edgedistill.data.loading import load_dataset
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import QUARANTINE, PreparedData, prepare_data
from edgedistill.pipeline.store import Store

FILES = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}


def prepared(folder: Path, **changes: Any) -> PreparedData:
    """The stage's result for the small task with changes; data files stay as they are."""
    kept = {path: path.read_bytes() for path in folder.glob("*.jsonl")}
    task = small_task.write_task(folder, Path("/no/teacher"), **changes)
    for path, content in kept.items():
        path.write_bytes(content)
    store = Store(folder / "store", silent)
    return prepare_data(
        Context(load_task(task), folder, folder / "run", store, silent, time.monotonic() + 60)
    )


def test_rows_come_back_as_they_were_read(tmp_path: Path) -> None:
    found = prepared(tmp_path)
    expected = load_dataset(load_task(tmp_path / "task.yaml"), root=tmp_path)
    assert found.dataset == expected
    again = prepared(tmp_path)
    assert again.stage.reused
    assert again.dataset == expected
    assert again.inspection == found.inspection
    assert found.inspection["findings"]


def test_another_row_in_any_file_is_read(tmp_path: Path) -> None:
    first = prepared(tmp_path)
    fingerprints = {first.stage.fingerprint}
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) == 5
    for file in files:
        row = {"text": f"one more in {file.stem}", "label": "order"}
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        found = prepared(tmp_path)
        assert not found.stage.reused, file
        fingerprints.add(found.stage.fingerprint)
    assert len(fingerprints) == 6


@pytest.mark.parametrize(
    ("changes", "is_reused"),
    [
        ({"requirements": {"retention": 0.5}}, True),
        ({"seed": 7}, True),
        ({"boundary": {"out_of_bounds": {"validation": "outside_validation.jsonl"}}}, False),
        ({"data": {"files": FILES, "split_seed": 1}}, False),
        ({"output": {"labels": ["refund", "order", "cancel"]}}, False),
        ({"input": {"languages": [], "max_characters": 500}}, False),
    ],
)
def test_only_settings_that_bear_on_the_data_count(
    tmp_path: Path, changes: dict[str, Any], is_reused: bool
) -> None:
    prepared(tmp_path)
    assert prepared(tmp_path, **changes).stage.reused is is_reused


def test_malformed_rows_are_kept_whole_in_the_quarantine(tmp_path: Path) -> None:
    prepared(tmp_path)
    broken = [b'{"text": "caf\xe9", "label": "order"}', b'{"text": "no end', b'{"label": "x"}']
    with (tmp_path / "train.jsonl").open("ab") as stream:
        stream.write(b"\n".join(broken) + b"\n")
    with pytest.raises(DataError, match=r"train\.jsonl:121"):
        prepared(tmp_path)
    found = prepared(tmp_path, data={"files": FILES, "on_malformed": "quarantine"})
    assert found.dataset.num_quarantined == 3
    assert len(found.dataset.train) == 120
    kept = (found.stage.folder / QUARANTINE).read_text()
    rows = [json.loads(line) for line in kept.splitlines()]
    assert [row["line"] for row in rows] == [121, 122, 123]
    assert ["no end" in json.dumps(row) for row in rows] == [False, True, False]
