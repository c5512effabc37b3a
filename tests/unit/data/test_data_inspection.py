"""The inspection: every figure on rows where it is known, and findings that say it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.task import TaskSpec
from edgedistill.data.data_report import DataReport
from edgedistill.data.inspection import inspect


def spec(**limits: int) -> TaskSpec:
    value = {
        "name": "t",
        "teacher": {"source": "package:x"},
        "data": {"files": {"train": "t.jsonl"}},
        "input": limits,
    }
    return TaskSpec.model_validate(value)


def rows(split: str, *pairs: tuple[str, str | None]) -> tuple[Example, ...]:
    return tuple(Example(f"{split}:{i}", text, label) for i, (text, label) in enumerate(pairs))


def dataset(**changes: Any) -> Dataset:
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    train = [(f"{n} {word}", word) for word in ("apples", "pears") for n in numbers]
    values: dict[str, Any] = {
        "labels": ("apples", "pears"),
        "train": rows("train", *train),
        "validation": rows("validation", ("three fresh apples", "apples"), ("hot pears", "pears")),
        "test": rows("test", ("the finest apples", "apples"), ("rotten pears", "pears")),
    }
    return Dataset(**values | changes)


def sentences(report: DataReport, severity: str) -> list[str]:
    return [sentence for kind, sentence in report.findings() if kind == severity]


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_clean_rows_have_no_findings() -> None:
    report = inspect(dataset(), spec(), count_tokens=words)
    assert report.findings() == []
    assert report.num_rows == {"train": 20, "validation": 2, "test": 2}
    assert report.class_balance.num_rows["train"] == {"apples": 10, "pears": 10}
    assert (report.class_balance.ratio, report.class_balance.entropy_bits) == (1.0, 1.0)
    tokens = report.tokens["test"]
    assert (tokens.least, tokens.most, tokens.mean) == (2, 3, 2.5)
    assert report.characters["validation"].most == len("three fresh apples")
    assert json.loads(json.dumps(report.as_json()))["num_rows"]["train"] == 20


def test_imbalance_and_absent_classes() -> None:
    train = rows(
        "train", *[(f"a{i}", "apples") for i in range(30)], ("p1", "pears"), ("p2", "pears")
    )
    test = rows("test", ("some", "apples"))
    report = inspect(dataset(train=train, test=test), spec())
    assert report.class_balance.ratio == 15
    assert report.class_balance.entropy_bits == pytest.approx(0.33729, abs=1e-5)
    found = "\n".join(sentences(report, "warning"))
    assert "30 training rows for the most frequent label, 2 for the rarest" in found
    assert "Labels with fewer than 10 training rows: 1 (pears)." in found
    assert "Labels without a test row: 1 (pears)." in found


def test_duplicates_and_conflicts() -> None:
    train = (*dataset().train, *rows("more", ("One apples!", "apples"), ("one PEARS", "apples")))
    outside = {"test": rows("oob", ("two pears", None), ("what time is it", None))}
    report = inspect(dataset(train=train, out_of_bounds=outside), spec())
    assert (report.duplicates["train"].num_groups, report.duplicates["train"].num_rows) == (2, 4)
    assert report.conflicts.num_groups == 2
    shown = {row.id for group in report.conflicts.examples for row in group}
    assert shown == {"train:10", "more:1", "train:11", "oob:0"}
    splits = {row.split for group in report.conflicts.examples for row in group}
    assert splits == {"train", "out_of_bounds.test"}
    assert any("Texts with different labels: 2 (4 rows)" in s for s in sentences(report, "warning"))
    assert any("repeat another row of it: 2." in s for s in sentences(report, "note"))


def test_leakage_is_a_warning_with_examples() -> None:
    long = "please send seven fresh apples to my office in the city"
    test = rows(
        "test", ("ONE apples", "apples"), (f"{long}!s", "apples"), ("rotten pears", "pears")
    )
    train = (*dataset().train, *rows("long", (long, "apples")))
    report = inspect(dataset(train=train, test=test), spec())
    (leak,) = [leak for leak in report.leakage if (leak.source, leak.split) == ("train", "test")]
    assert (leak.num_rows, leak.num_exact, leak.num_near) == (3, 1, 1)
    assert [example.row.id for example in leak.examples] == ["test:0", "test:1"]
    assert leak.examples[0].source.id == "train:0"
    assert leak.examples[1].source.id == "long:0"
    found = "\n".join(sentences(report, "warning"))
    assert "Rows of test that stand in train too" in found
    assert "1 of 3 (33.33%)" in found
    assert "nearly equal to a row of train: 1 of 3" in found


def test_test_rows_in_the_unlabelled_pool_leak_too() -> None:
    report = inspect(dataset(unlabelled=rows("pool", ("Rotten pears.", None))), spec())
    assert any("stand in unlabelled too" in s for s in sentences(report, "warning"))
    assert report.conflicts.num_groups == 0


def test_examples_are_at_most_ten() -> None:
    train = rows("train", *[("same text", "apples")] * 30, *[(f"p{i}", "pears") for i in range(30)])
    test = rows("test", *[(f"p{i}", "pears") for i in range(30)], ("q", "apples"))
    report = inspect(dataset(train=train, test=test), spec())
    assert len(report.duplicates["train"].examples[0]) == 10
    assert report.duplicates["train"].num_rows == 30
    leak = next(leak for leak in report.leakage if leak.split == "test" and leak.source == "train")
    assert (len(leak.examples), leak.num_exact) == (10, 30)


def test_unseen_characters() -> None:
    test = rows("test", ("the épéé apples", "apples"), ("pears \x07é", "pears"))
    report = inspect(dataset(test=test), spec())
    (unseen,) = report.unseen_characters
    assert (unseen.split, unseen.num_rows) == ("test", 2)
    assert unseen.characters == {"é": 2, "\x07": 1}
    (sentence,) = sentences(report, "note")
    assert r"(é \x07)" in sentence


def test_rows_outside_the_input_limits() -> None:
    test = rows("test", ("  ab  ", "apples"), ("x" * 21, "pears"), ("a b c d e", "pears"))
    outside = {"test": rows("oob", ("x" * 500, None))}
    limits = spec(min_characters=3, max_characters=20, max_tokens=4)
    report = inspect(dataset(test=test, out_of_bounds=outside), limits, count_tokens=words)
    (found,) = report.outside_limits
    counts = (found.split, found.num_too_short, found.num_too_long, found.num_too_many_tokens)
    assert counts == ("test", 1, 1, 1)
    assert [row.id for row in found.examples] == ["test:0", "test:1", "test:2"]
    (sentence,) = [s for s in sentences(report, "warning") if "limits" in s]
    assert sentence.endswith("1 too short, 1 too long, 1 too many tokens.")


def test_similar_labels_and_quarantined_rows_are_told() -> None:
    labels = ("apples", "Apples ")
    report = inspect(dataset(labels=labels, num_quarantined=3), spec())
    found = "\n".join(sentences(report, "warning"))
    assert "'apples', 'Apples '" in found
    assert "Malformed rows set aside: 3." in found


def test_warnings_come_first() -> None:
    report = inspect(dataset(train=dataset().train * 2), spec())
    kinds = [kind for kind, _ in report.findings()]
    assert kinds == sorted(kinds, reverse=True)
