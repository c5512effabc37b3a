"""Hub data sets: what EdgeDistill makes of the answers of the `datasets` library."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgedistill.core.errors import DataError, MissingExtra
from edgedistill.core.task import TaskSpec
from edgedistill.data.hub import read_hub
from edgedistill.data.loading import load_dataset
from edgedistill.data.malformed import MalformedRows
from edgedistill.data.reading import Columns

COLUMNS = Columns("text", "label")


class Split(list[dict[str, Any]]):
    """As much of `datasets.Dataset` as is used; its rows, and the features by column."""

    def __init__(self, *pairs: tuple[object, object], names: list[str] | None = None) -> None:
        super().__init__({"text": text, "label": label} for text, label in pairs)
        self.features = {"label": SimpleNamespace(names=names) if names else object()}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Puts a `datasets` library in place that gives, or raises, what it is told."""

    def install(answer: object) -> None:
        def load(name: str) -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        module = ModuleType("datasets")
        module.load_dataset = load  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", module)

    return install


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"needs packages") as error:
        read_hub("clinc_oos", COLUMNS, MalformedRows(None))
    assert "edgedistill[hub]" in str(error.value)


def test_without_a_connection(library: Callable[[object], None]) -> None:
    library(ConnectionError("Couldn't reach 'clinc_oos' on the Hub\nmore"))
    with pytest.raises(DataError) as error:
        read_hub("clinc_oos", COLUMNS, MalformedRows(None))
    message = str(error.value)
    assert "cannot be loaded: Couldn't reach 'clinc_oos' on the Hub\n" in message
    assert "name them in data.files" in message


@pytest.mark.parametrize("name", ["../secret", "/etc", "a b", "", "a/b/c", "a/../b", ".hidden"])
def test_only_ids_reach_the_library(library: Callable[[object], None], name: str) -> None:
    library({"train": Split(("a", "b"))})
    with pytest.raises(DataError, match="not a data set id"):
        read_hub(name, COLUMNS, MalformedRows(None))


def test_class_numbers_become_names_and_bad_rows_are_collected(
    library: Callable[[object], None],
) -> None:
    library({"train": Split(("a", 0), ("b", 1), ("c", -1), (None, 0), names=["no", "yes"])})
    malformed = MalformedRows(None)
    splits = read_hub("org/set", COLUMNS, malformed)
    assert [(row.id, row.label) for row in splits["train"]] == [
        ("train:1", "no"),
        ("train:2", "yes"),
    ]
    assert malformed.listed == [
        "hub:org/set/train:3: 'label' is -1, which is no class of the data set",
        "hub:org/set/train:4: 'text' is null",
    ]


def test_a_data_set_without_train(library: Callable[[object], None]) -> None:
    library({"dev": Split(("a", "b"))})
    with pytest.raises(DataError, match="no split 'train', only: dev"):
        read_hub("org/set", COLUMNS, MalformedRows(None))


def test_missing_splits_are_cut_and_files_go_beside(
    library: Callable[[object], None], tmp_path: Path
) -> None:
    library(
        {
            "train": Split(*[(f"text {n} {x}", x) for n in range(10) for x in "ab"]),
            "test": Split(("t", "a")),
            "extra": Split(("ignored", "z")),
        }
    )
    (tmp_path / "pool.jsonl").write_text('{"text": "p"}\n')
    spec = TaskSpec.model_validate(
        {
            "name": "t",
            "teacher": {"source": "package:x"},
            "data": {"hub": "org/set", "unlabelled": "pool.jsonl"},
        }
    )
    dataset = load_dataset(spec, root=tmp_path)
    assert len(dataset.test) == 1
    assert len(dataset.validation) == 3
    assert len(dataset.train) == 17
    assert dataset.unlabelled[0].id == "pool.jsonl:1"
