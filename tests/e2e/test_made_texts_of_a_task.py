"""Paraphrases, edge cases and adversarial edits, learned in stages, from task file to bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
import small_task
from edgedistill.core.errors import SpecError
from edgedistill.core.files import read_json
from edgedistill.core.task_file import load_task
from edgedistill.data.duplicates import normalised
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import RunResult, run_task

ALL = {
    "num_texts": 60,
    "paraphrases": {"templates": ["can you {text}", "{text} please"], "num_texts": 30},
    "edge_cases": {"of": ["near", "edge_cases", "out_of_bounds"], "num_texts": 30},
    "adversarial": {"num_texts": 60},
}
EDGE_CASES = [
    {"text": "stop my order", "label": "cancel"},
    {"text": "money for the parcel", "label": "refund"},
]
OUTSIDE = [{"text": f"broken shop {word}"} for word in ("send", "much", "how", "never")]


def write(folder: Path, teacher: Path, augmentation: Any, **distillation: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    small_task.write_rows(folder / "edge_cases.jsonl", EDGE_CASES)
    small_task.write_rows(folder / "outside_train.jsonl", OUTSIDE)
    return small_task.write_task(
        folder, teacher,
        boundary={
            "edge_cases": "edge_cases.jsonl", "false_abstention_rate": 0.1,
            "out_of_bounds": {s: f"outside_{s}.jsonl" for s in ("train", "validation", "test")},
        },
        distillation={"augmentation": augmentation, **distillation},
        requirements={"retention": 0.5},
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """All kinds of texts, the late ones last."""
    folder = tmp_path_factory.mktemp("made")
    task = write(folder, teacher_folder, ALL, curriculum={"by": "stage"}, num_epochs=4)
    return run_task(task, runs_dir=folder / "runs")


def stage(result: RunResult, name: str) -> Path:
    (found,) = [each.folder for each in result.stages if each.name == name]
    return found


def test_every_kind_is_made_counted_and_learned(result: RunResult) -> None:
    classifier = edgedistill.load(result.bundle)
    assert classifier.predict(["please cancel it now"])[0].reason in (None, "out_of_bounds")
    transfer = stage(result, "transfer")
    made, texts = read_json(transfer / "made.json"), read_json(transfer / "texts.json")
    kinds = ["mixed", "paraphrases", "edge cases", "characters", "synonyms", "distractors"]
    assert list(made) == kinds
    assert [made[kind] for kind in kinds[:3]] == [60, 30, 30]
    assert all(0 < made[kind] <= 20 for kind in kinds[3:])
    assert len(texts) == 120 + sum(made.values())
    assert len(np.load(transfer / "logits.npy")) == len(texts)
    assert len(np.load(transfer / "starts.npy")) == len(texts) + 1
    framed = texts[180:210]
    assert all(text.startswith("can you ") or text.endswith(" please") for text in framed)
    report = json.loads((result.folder / "report.json").read_text())
    shown = dict(map(tuple, report["splits"]))
    assert {f"made: {kind}": made[kind] for kind in kinds}.items() <= shown.items()
    assert any("variants of the edge cases" in note for note in report["making"]["notes"])
    for kind in kinds[3:]:
        told = any(f"({kind})" in note for note in report["making"]["notes"])
        assert told == (made[kind] < 20)


def test_nothing_is_made_twice_or_is_scored(result: RunResult) -> None:
    texts = read_json(stage(result, "transfer") / "texts.json")
    assert len(set(texts)) == len(texts)
    task = load_task(result.folder.parent.parent / "task.yaml")
    root = result.folder.parent.parent
    held_out = [
        json.loads(line)["text"]
        for name in ("validation", "test", "edge_cases", "outside_validation", "outside_test")
        for line in (root / f"{name}.jsonl").read_text().splitlines()
    ]
    made = {normalised(text) for text in texts[120:]}
    assert not made & {normalised(text) for text in held_out}
    assert all(len(text) <= task.input.max_characters for text in texts)


def test_adversarial_texts_are_answered_as_before(result: RunResult) -> None:
    transfer = stage(result, "transfer")
    texts, logits = read_json(transfer / "texts.json"), np.load(transfer / "logits.npy")
    made = read_json(transfer / "made.json")
    answers = dict(zip(texts[:120], logits[:120].argmax(1), strict=True))
    with_distractor = range(len(texts) - made["distractors"], len(texts))
    assert with_distractor
    for row in with_distractor:
        inside = {answer for text, answer in answers.items() if text in texts[row]}
        assert logits[row].argmax() in inside


def test_stages_open_one_after_the_other(result: RunResult) -> None:
    log = (result.folder / "log.jsonl").read_text().splitlines()
    told = [event["message"] for event in map(json.loads, log) if "parts of the" in str(event)]
    assert told[-1] == "opens 4 of 4 parts of the texts"


def test_the_same_task_makes_the_same_texts(
    result: RunResult, tmp_path: Path, teacher_folder: Path
) -> None:
    from edgedistill.pipeline.context import Context
    from edgedistill.pipeline.stages.dataset import prepare_data
    from edgedistill.pipeline.stages.made_texts import TextMaker
    from edgedistill.pipeline.store import Store
    from edgedistill.tasks.classification import TextEncoder

    transfer = stage(result, "transfer")
    texts, logits = read_json(transfer / "texts.json"), np.load(transfer / "logits.npy")
    root = result.folder.parent.parent
    spec = load_task(root / "task.yaml")
    store = Store(tmp_path, lambda _: None)
    dataset = prepare_data(Context(spec, root, tmp_path, store, store.listener, 0.0)).dataset  # type: ignore[arg-type]
    encoder = TextEncoder(teacher_folder / "tokenizer.json", 64)
    maker = TextMaker(spec, dataset, encoder)  # type: ignore[arg-type]
    unread = [text for each in maker.unread().values() for text in each]
    assert texts[120:210] == unread
    import torch

    edits = maker.read(logits[:120], torch.zeros(encoder.num_tokens, 4))
    assert [edit.text for edit in edits["edge cases"]] == texts[210:240]


def test_check_foresees_all_kinds(tmp_path: Path, teacher_folder: Path) -> None:
    costs = []
    for name, augmentation in (("few", {"num_texts": 60}), ("all", ALL)):
        expected = check_task(write(tmp_path / name, teacher_folder, augmentation)).forecast
        costs.append(expected.seconds["transfer"] / expected.seconds["teacher"])
    assert costs[1] / costs[0] == pytest.approx((120 + 180) / (120 + 60), rel=0.5)


@pytest.mark.parametrize(
    ("distillation", "message"),
    [
        (
            {"augmentation": {"edge_cases": {"of": ["edge_cases"]}}},
            r"yaml:\d+: distillation.augmentation.edge_cases.of.0: .* file boundary.edge_cases",
        ),
        (
            {"augmentation": {"edge_cases": {"of": ["near", "out_of_bounds"]}}},
            "boundary.out_of_bounds.train",
        ),
        ({"augmentation": {"paraphrases": {"templates": ["a" * 1000 + "{text}"]}}}, "no room"),
        ({"curriculum": {"by": "stage"}}, "texts that come last"),
        ({"augmentation": {"paraphrases": {"templates": ["{txt} please"]}}}, "once"),
    ],
)
def test_what_cannot_be_made_is_refused_before_work(
    tmp_path: Path, teacher_folder: Path, distillation: Any, message: str
) -> None:
    path = small_task.write_task(tmp_path, teacher_folder, distillation=distillation)
    with pytest.raises(SpecError, match=message) as caught:
        check_task(path)
    assert str(path) in str(caught.value)
