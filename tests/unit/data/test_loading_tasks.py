"""Loading: a task's rows are complete and consistent, or it is refused with the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.core.artefacts import Dataset
from edgedistill.core.errors import DataError
from edgedistill.core.task import TaskSpec
from edgedistill.data.loading import load_dataset
from edgedistill.data.reading import read_examples
from edgedistill.data.writing import fingerprint_of, write_examples

THREE = {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"}
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def rows(path: Path, *pairs: tuple[str, str | None], **extra: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"text": text, "label": label} | extra for text, label in pairs]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def three_files(root: Path) -> None:
    rows(root / "train.jsonl", ("hi", "greet"), ("bye", "leave"), ("hello", "greet"))
    rows(root / "validation.jsonl", ("hey", "greet"))
    rows(root / "test.jsonl", ("ciao", "leave"))


def load(
    root: Path, data: dict[str, Any] | None = None, quarantine: Path | None = None, **sections: Any
) -> Dataset:
    data = {"files": THREE} | (data or {})
    spec = {"name": "t", "teacher": {"source": "package:x"}, "data": data} | sections
    return load_dataset(TaskSpec.model_validate(spec), root=root, quarantine=quarantine)


def refusal(*arguments: Any, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        load(*arguments, **settings)
    return str(error.value)


def test_all_sources_of_a_task(tmp_path: Path) -> None:
    three_files(tmp_path)
    rows(tmp_path / "pool.jsonl", ("yo", None))
    rows(tmp_path / "edge.jsonl", ("HI", "greet"))
    for split in ("train", "test"):
        rows(tmp_path / "oob" / f"{split}.jsonl", ("what is 2+2", "oos"))
    dataset = load(
        tmp_path,
        {"unlabelled": "pool.jsonl"},
        boundary={
            "edge_cases": "edge.jsonl",
            "out_of_bounds": {"train": "oob/train.jsonl", "test": "oob/test.jsonl"},
        },
    )
    assert dataset.labels == ("greet", "leave")
    assert dataset.targets("train").tolist() == [0, 1, 0]
    assert [row.text for row in dataset.unlabelled] == ["yo"]
    assert [row.label for row in dataset.edge_cases] == ["greet"]
    assert set(dataset.out_of_bounds) == {"train", "test"}
    assert dataset.out_of_bounds["train"][0].label is None
    assert dataset.out_of_bounds["train"][0].id == "oob/train.jsonl:1"
    assert dataset.train[0].id == "train.jsonl:1"


def test_files_of_one_name_have_distinct_ids(tmp_path: Path) -> None:
    files = {split: f"{split}/rows.jsonl" for split in THREE}
    for split in files:
        rows(tmp_path / files[split], ("a", "x"), (split, "y"))
    dataset = load(tmp_path, {"files": files})
    assert dataset.test[1].id == "test/rows.jsonl:2"


def test_declared_labels_give_the_order(tmp_path: Path) -> None:
    three_files(tmp_path)
    dataset = load(tmp_path, output={"labels": ["leave", "greet"]})
    assert dataset.labels == ("leave", "greet")
    assert dataset.targets("train").tolist() == [1, 0, 1]


def test_labels_that_train_lacks_are_listed_with_their_rows(tmp_path: Path) -> None:
    three_files(tmp_path)
    rows(tmp_path / "test.jsonl", ("a", "leave"), ("b", "leav"), ("c", "leav"), ("d", "other"))
    rows(tmp_path / "edge.jsonl", ("e", "other"))
    message = refusal(tmp_path, boundary={"edge_cases": "edge.jsonl"})
    assert "'leav' in 2 row(s): test test.jsonl:2, test test.jsonl:3" in message
    assert "'other' in 2 row(s): test test.jsonl:4, edge_cases edge.jsonl:1" in message
    assert "is 'leav' meant to be 'leave'?" in message


def test_declared_and_used_labels_must_agree(tmp_path: Path) -> None:
    three_files(tmp_path)
    message = refusal(tmp_path, output={"labels": ["greet", "leave", "thank"]})
    assert "1 declared label(s) have no training row: 'thank'" in message
    rows(tmp_path / "train.jsonl", ("a", "greet"), ("b", "leave"), ("c", "stray"))
    message = refusal(tmp_path, output={"labels": ["greet", "leave"]})
    assert "the declared labels lack 1 label(s)" in message
    assert "train train.jsonl:3" in message


def test_one_class_only(tmp_path: Path) -> None:
    three_files(tmp_path)
    rows(tmp_path / "train.jsonl", ("a", "greet"), ("b", "greet"))
    assert "all 2 training rows have the label 'greet'" in refusal(tmp_path)


def test_an_empty_or_missing_split_is_refused(tmp_path: Path) -> None:
    three_files(tmp_path)
    (tmp_path / "test.jsonl").write_text("")
    assert "test.jsonl: the file holds no rows" in refusal(tmp_path)
    (tmp_path / "test.jsonl").unlink()
    assert "test.jsonl: no such file" in refusal(tmp_path)


def test_two_splits_cannot_share_a_file(tmp_path: Path) -> None:
    three_files(tmp_path)
    message = refusal(tmp_path, {"files": THREE | {"test": "../" + tmp_path.name + "/train.jsonl"}})
    assert "train and test name the same file" in message


def test_ids_are_unique_over_the_splits(tmp_path: Path) -> None:
    three_files(tmp_path)
    rows(tmp_path / "train.jsonl", ("a", "greet"), id=1)
    rows(tmp_path / "validation.jsonl", ("b", "greet"), id=2)
    rows(tmp_path / "test.jsonl", ("c", "greet"), id=1)
    message = refusal(tmp_path, {"id_column": "id"})
    assert "1 ids stand in two splits: '1' (train, test)" in message


def test_malformed_rows_of_all_files_are_refused_together_or_set_aside(tmp_path: Path) -> None:
    three_files(tmp_path)
    for name in ("train", "test"):
        with (tmp_path / f"{name}.jsonl").open("a") as stream:
            stream.write(f"bad {name}\n")
    quarantine = tmp_path / "run" / "quarantine.jsonl"
    message = refusal(tmp_path, quarantine=quarantine)
    assert "2 malformed rows" in message
    assert f"{tmp_path / 'train.jsonl'}:4" in message
    assert f"{tmp_path / 'test.jsonl'}:2" in message
    assert not quarantine.exists()  # the task file refuses, whatever path is given

    data = {"on_malformed": "quarantine"}
    dataset = load(tmp_path, data, quarantine)
    assert dataset.num_quarantined == 2
    kept = [json.loads(line)["content"] for line in quarantine.read_text().splitlines()]
    assert kept == ["bad train", "bad test"]
    before = quarantine.read_bytes()
    load(tmp_path, data, quarantine)
    assert quarantine.read_bytes() == before
    assert "2 malformed rows" in refusal(tmp_path, data)
    message = refusal(tmp_path, data, tmp_path / "test.jsonl")
    assert "the quarantine is a file that is read" in message


def test_missing_splits_are_cut_from_train(tmp_path: Path) -> None:
    rows(tmp_path / "train.jsonl", *[(f"{w} {x}", x) for w in WORDS for x in "abc"])
    rows(tmp_path / "test.jsonl", ("zz", "a"))
    dataset = load(tmp_path, {"files": {"train": "train.jsonl"}})
    sizes = [len(dataset.train), len(dataset.validation), len(dataset.test)]
    assert sizes == [22, 4, 4]
    with_test = load(tmp_path, {"files": {"train": "train.jsonl", "test": "test.jsonl"}})
    assert [row.text for row in with_test.test] == ["zz"]
    assert len(with_test.train) + len(with_test.validation) == 30


def test_rare_labels_cannot_be_split(tmp_path: Path) -> None:
    pairs = [(f"{w} {x}", x) for w in WORDS for x in "ab"]
    rows(tmp_path / "train.jsonl", *pairs, ("r", "rare"), ("s", "rare"))
    message = refusal(tmp_path, {"files": {"train": "train.jsonl"}})
    assert "'rare' (2)" in message
    assert "at least 3" in message


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    three_files(tmp_path)
    first = fingerprint_of(load(tmp_path))
    (tmp_path / "moved").mkdir()
    three_files(tmp_path / "moved")
    assert fingerprint_of(load(tmp_path / "moved")) == first
    assert fingerprint_of(load(tmp_path, output={"labels": ["leave", "greet"]})) != first
    rows(tmp_path / "test.jsonl", ("ciao!", "leave"))
    assert fingerprint_of(load(tmp_path)) != first
    rows(tmp_path / "test.jsonl", ("ciao", "greet"))
    assert fingerprint_of(load(tmp_path)) != first


def test_written_examples_read_back(tmp_path: Path) -> None:
    content = (
        '{"id": "1", "text": "é\\n\\u2028\\"x\\"", "label": "a"}\n{"id": "2", "text": " y "}\n'
    )
    (tmp_path / "a.jsonl").write_text(content)
    columns: dict[str, Any] = {"text_column": "text", "label_column": None, "id_column": "id"}
    unlabelled = read_examples(tmp_path / "a.jsonl", **columns)
    write_examples(tmp_path / "b.jsonl", unlabelled)
    assert read_examples(tmp_path / "b.jsonl", **columns) == unlabelled
    assert "label" not in (tmp_path / "b.jsonl").read_text()
