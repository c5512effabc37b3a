"""`compress`: a fine-tuned tagger, without a smaller student, to its bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from transformers import BertForTokenClassification

import edgedistill
import small_extraction
import small_tagger
from edgedistill.core.errors import BudgetExceeded, ModelError, SpecError
from edgedistill.core.events import Event
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.compression import compress_model
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.extraction.extractor import Extractor

PASSES = [
    "prune_vocabulary",
    {"name": "drop_layers", "share": 0.34},
    {"name": "prune_encoder", "share": 0.4, "rounds": 2},
    "weight_int8",
]
SHORT = {"augmentation": {"num_texts": 60}, "num_epochs": 3}


class Stopped(Exception):
    """Somebody pulled the plug."""


class Compressed(NamedTuple):
    """A run of the command, its task file and the model."""

    model: Path
    task: Path
    result: RunResult


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Compressed:
    """Killed in its first round, then finished."""
    folder = tmp_path_factory.mktemp("tagger")
    model = small_tagger.write_tagger(folder / "model", teacher_folder)
    # The command brings the model and leaves out the student, whatever the file says of them.
    task = small_extraction.write_task(
        folder, Path("nowhere"), compress=PASSES, distillation=SHORT,
        requirements={"retention": 0.5},
    )  # fmt: skip
    runs = folder / "runs"

    def stop(event: Event) -> None:
        if "round 1 of 2" in event.stage and event.kind == "progress":
            raise Stopped

    with pytest.raises(Stopped):
        compress_model(str(model), task, max_mb=0.3, runs_dir=runs, listener=stop)
    return Compressed(model, task, compress_model(str(model), task, max_mb=0.3, runs_dir=runs))


def report(result: RunResult) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((result.folder / "report.json").read_text())
    return content


def test_ends_in_a_bundle_that_finds_what_the_model_found(compressed: Compressed) -> None:
    result = compressed.result
    assert result.ships, result.summary()
    assert result.folder.name == "orders-compressed"
    assert result.measurements["span_f1"]["teacher"] > 0.8
    extractor = edgedistill.load(result.bundle)
    assert isinstance(extractor, Extractor)
    rows = small_extraction.rows(40, 7)
    answered = [
        ({(v.name, v.start, v.end) for v in answer.fields},
         {(s["label"], s["start"], s["end"]) for s in row["spans"]})
        for row, answer in zip(rows, extractor.predict([r["text"] for r in rows]), strict=True)
        if answer.record is not None
    ]  # fmt: skip
    assert len(answered) > len(rows) / 2
    assert sum(found == given for found, given in answered) > 0.8 * len(answered)
    model = BertForTokenClassification.from_pretrained(compressed.model)
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    assert (result.bundle / "model.onnx").stat().st_size < whole


def test_the_report_lists_what_each_pass_took_away(compressed: Compressed) -> None:
    content = report(compressed.result)
    rows = content["removal"]
    assert [row["name"] for row in rows] == [
        "", "prune_vocabulary", "drop_layers", "prune_encoder", "prune_encoder",
    ]  # fmt: skip
    layers = [row["layer_parameters"] for row in rows]
    assert layers[2] * 3 == layers[0] * 2
    # Two rounds of a fifth each, to within half a head.
    assert layers[4] == pytest.approx(layers[2] * 0.6, abs=8 * 4 * 33)
    assert all(row["size_bytes"] > 4 * row["parameters"] and row["p50_ms"] > 0 for row in rows)
    page = (compressed.result.folder / "report.md").read_text()
    assert "What was removed" in page
    assert "removed in 2 rounds" in page
    assert "Validation span F1" in page
    assert [each["name"] for each in content["passes"]] == ["full precision", "weight_int8"]
    assert [each["name"] for each in content["candidates"]] == ["own-passes"]
    assert {m["role"] for m in content["quality"]["models"]} == {
        "teacher",
        "shipped",
        "undistilled",
    }


def test_again_reuses_everything(compressed: Compressed) -> None:
    again = compress_model(
        str(compressed.model), compressed.task, max_mb=0.3,
        runs_dir=compressed.result.folder.parent,
    )  # fmt: skip
    assert again.num_reused == len(again.stages)


def test_passes_on_the_file_alone_train_nothing(compressed: Compressed, tmp_path: Path) -> None:
    task = small_extraction.write_task(
        tmp_path, compressed.model, student={}, compress=["weight_int8"], distillation=SHORT,
        teacher={"source": f"folder:{compressed.model}", "num_epochs": 0},
        requirements={"retention": 0.9},
    )  # fmt: skip
    result = run_task(task, runs_dir=tmp_path / "runs")
    assert result.ships, result.summary()
    # What ships is the tagger itself, in INT8: there is nothing to compare with.
    assert set(np.load(result.answers).files) == {"shipped", "teacher"}
    content = report(result)
    assert content["removal"] == []
    assert {m["role"] for m in content["quality"]["models"]} == {"teacher", "shipped"}
    assert content["versions"]["original_score"] == pytest.approx(
        content["versions"]["rows"][0]["score"]
    )


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> RunResult:
    """The task's own teacher, with a label of whole texts, under two recipes."""
    task = small_extraction.write_task(
        tmp_path_factory.mktemp("labelled"), teacher_folder, student={},
        output={"labels": [{"name": "intent"}], "fields": small_extraction.FIELDS},
        compress={"recipes": ["small", "fast"]}, distillation=SHORT | {"num_epochs": 6},
        requirements={"retention": 0.3},
    )  # fmt: skip
    return run_task(task, runs_dir=task.parent / "runs")


def test_recipes_are_tried_and_the_smallest_that_does_ships(labelled: RunResult) -> None:
    assert labelled.ships, labelled.summary()
    content = report(labelled)
    made = {each["name"]: each for each in content["candidates"]}
    assert set(made) == {"small", "fast"}
    (chosen,) = (each for each in made.values() if each["chosen"])
    assert chosen["size_bytes"] == min(each["size_bytes"] for each in made.values())
    assert content["shipped"]["family"] == "compressed"
    accuracy = labelled.measurements["label_accuracy"]
    assert accuracy["teacher"]["intent"] > 0.9
    assert accuracy["shipped"]["intent"] > 0.6
    assert labelled.measurements["label_retention"]["intent"]["low"] > 0.3


def test_auto_tries_sequences_beside_the_recipe(labelled: RunResult) -> None:
    task = labelled.folder.parent.parent / "task.yaml"
    values = yaml.safe_load(task.read_text())
    # A first trial is always made, however short the time.
    values["compress"] = {"recipes": ["fast"], "search": {"minutes": 0.01}}
    values["distillation"] |= {"num_epochs": 2}
    searching = task.with_name("auto.yaml")
    searching.write_text(yaml.safe_dump(values))
    result = run_task(searching, runs_dir=labelled.folder.parent)
    stages = {stage.name: stage for stage in result.stages}
    assert stages["teacher"].reused
    assert stages["transfer"].reused
    assert "sensitivity" in stages
    content = report(result)
    assert "fast" in {each["name"] for each in content["candidates"]}
    assert any("no time left for a trial" in why for _, why in content["skipped"])


def changed(task: Path, folder: Path, **sections: Any) -> Path:
    """The same task beside its data with other sections."""
    values = yaml.safe_load(task.read_text()) | sections
    path = task.with_name(f"{folder.name}.yaml")
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return path


def test_models_of_another_kind_or_with_other_tags_are_refused(
    compressed: Compressed, tmp_path: Path
) -> None:
    config = json.loads((compressed.model / "config.json").read_text())

    def check(**changes: Any) -> None:
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        for name in ("model.safetensors", "tokenizer.json"):
            (other / name).write_bytes((compressed.model / name).read_bytes())
        (other / "config.json").write_text(json.dumps(config | changes))
        teacher = {"source": f"folder:{other}", "num_epochs": 0}
        check_task(changed(compressed.task, tmp_path, teacher=teacher, student=None))

    check()
    names = {str(i): name for i, name in enumerate(small_tagger.TAGS)}
    with pytest.raises(ModelError, match="labels whole texts") as caught:
        check(id2label={"0": "yes", "1": "no"}, architectures=["BertForSequenceClassification"])
    assert caught.value.where.endswith("config.json")
    with pytest.raises(ModelError, match="lacks I-item; it has I-thing"):
        check(id2label={k: n.replace("I-item", "I-thing") for k, n in names.items()})
    with pytest.raises(ModelError, match="this is a BertForPreTraining, no classifier of tokens"):
        check(architectures=["BertForPreTraining"])
    with pytest.raises(ModelError, match="share their weights"):
        check(model_type="albert")


def test_a_tagger_is_no_classifier_of_whole_texts(compressed: Compressed, tmp_path: Path) -> None:
    import small_task

    task = small_task.write_task(tmp_path, compressed.model, student={}, compress="fast")
    values = yaml.safe_load(task.read_text())
    values["teacher"] = {"source": f"folder:{compressed.model}", "num_epochs": 0}
    task.write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match="tags the tokens of a text"):
        check_task(task)


def test_a_size_that_no_recipe_reaches_is_refused_before_any_work(
    compressed: Compressed, tmp_path: Path
) -> None:
    teacher = {"source": f"folder:{compressed.model}", "num_epochs": 0}
    task = changed(
        compressed.task, tmp_path, teacher=teacher, student=None, compress={},
        requirements={"size_mb": 0.001},
    )  # fmt: skip
    with pytest.raises(BudgetExceeded, match=r"small about .*, fast about .*, balanced about"):
        check_task(task)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"compress": "tiny"}, "compress"),
        ({"compress": ["weight_int8", "drop_layers"]}, "put drop_layers first"),
        ({"compress": "fast", "student": {"family": "truncated"}}, "leave out student"),
        ({"compress": {"recipes": ["fast"], "passes": ["drop_layers"]}}, "not both"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_line(
    compressed: Compressed, tmp_path: Path, sections: dict[str, Any], told: str
) -> None:
    with pytest.raises(SpecError, match=told) as caught:
        check_task(changed(compressed.task, tmp_path, **({"student": None} | sections)))
    assert f"{tmp_path.name}.yaml:" in str(caught.value)
