"""The invoices example: rows that a task can learn from, held-out ones that it has not seen."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import edgedistill
from edgedistill.core.extraction import Document
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.task_file import load_task
from edgedistill.data.documents import read_documents
from edgedistill.data.near_duplicates import near_neighbours
from edgedistill.runtime.extraction.fields import Field, record_schema
from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError
from edgedistill.runtime.language import LanguageCheck

FOLDER = Path(edgedistill.__file__).parents[2] / "examples" / "invoices"
SPLITS = {"train": 288, "validation": 64, "test": 96}
OUTSIDE = {"train": 30, "validation": 30, "test": 40}
NUM_EDGE_CASES = 60
#: Trigrams that two texts of different files may share (Jaccard); the nearest pair has 0.21.
MOST_SIMILAR = 0.3
#: Words in a row that no two documents share.
NUM_WORDS = 6


@pytest.fixture(scope="module")
def spec() -> ExtractionSpec:
    found = load_task(FOLDER / "task.yaml")
    assert isinstance(found, ExtractionSpec)
    return found


@pytest.fixture(scope="module")
def fields(spec: ExtractionSpec) -> dict[str, Field]:
    return {
        f.name: Field(f.name, f.normaliser, f.many, f.required, f.settings())
        for f in spec.output.fields
    }


@pytest.fixture(scope="module")
def rows(spec: ExtractionSpec) -> dict[str, tuple[Document, ...]]:
    """Reading refuses spans outside the text, overlaps, blanks at edges and unknown fields."""
    labels = {field.name: field.many for field in spec.output.fields}
    names = {split: str(getattr(spec.data.files, split)) for split in SPLITS}
    names["edge_cases"] = str(spec.boundary.edge_cases)
    return {key: read_documents(FOLDER / name, labels=labels) for key, name in names.items()}


@pytest.fixture(scope="module")
def outside(spec: ExtractionSpec) -> dict[str, list[dict[str, Any]]]:
    bounds = spec.boundary.out_of_bounds
    return {
        split: [
            json.loads(line)
            for line in (FOLDER / str(getattr(bounds, split))).read_text("utf-8").splitlines()
        ]
        for split in OUTSIDE
    }


@pytest.fixture(scope="module")
def texts(
    rows: dict[str, tuple[Document, ...]], outside: dict[str, list[dict[str, Any]]]
) -> dict[str, list[str]]:
    """Every text by file, as near-duplicates are looked for."""
    found = {key: [_plain(row.text) for row in part] for key, part in rows.items()}
    return found | {f"outside {k}": [_plain(row["text"]) for row in v] for k, v in outside.items()}


def test_there_are_as_many_rows_as_the_readme_says(
    rows: dict[str, tuple[Document, ...]], outside: dict[str, list[dict[str, Any]]]
) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    told = {
        name: int(num) for name, num in re.findall(r"\| `data/(\w+)\.jsonl` \| (\d+) \|", readme)
    }
    found = {key: len(part) for key, part in rows.items()}
    found |= {f"outside_{key}": len(part) for key, part in outside.items()}
    assert told == found
    assert {key: found[key] for key in SPLITS} == SPLITS
    assert found["edge_cases"] == NUM_EDGE_CASES
    assert {key: len(part) for key, part in outside.items()} == OUTSIDE


def test_texts_to_refuse_are_of_both_groups(outside: dict[str, list[dict[str, Any]]]) -> None:
    for part in outside.values():
        groups = Counter(row["group"] for row in part)
        assert set(groups) == {"near", "far"}
        assert groups["near"] == groups["far"]


def test_no_text_stands_twice(texts: dict[str, list[str]]) -> None:
    every = Counter(itertools.chain.from_iterable(texts.values()))
    assert [text for text, num in every.items() if num > 1] == []


def test_no_two_files_have_texts_that_are_nearly_equal(texts: dict[str, list[str]]) -> None:
    for one, other in itertools.combinations(texts, 2):
        found = near_neighbours(texts[one], texts[other], threshold=MOST_SIMILAR)
        assert [(texts[one][n.query], texts[other][n.corpus]) for n in found] == []


def test_documents_share_no_sentences(rows: dict[str, tuple[Document, ...]]) -> None:
    """Templates would show as runs of words that several documents have."""
    seen: dict[tuple[str, ...], str] = {}
    for row in itertools.chain.from_iterable(rows.values()):
        words = re.findall(r"\w+", row.text.casefold())
        runs = {tuple(words[i : i + NUM_WORDS]) for i in range(len(words) - NUM_WORDS + 1)}
        assert [(row.id, seen[run]) for run in runs if run in seen] == []
        seen.update(dict.fromkeys(runs, row.id))


def test_every_field_occurs_in_every_split(
    rows: dict[str, tuple[Document, ...]], fields: dict[str, Field]
) -> None:
    for split in SPLITS:
        num = Counter(span.label for row in rows[split] for span in row.spans)
        assert set(num) == set(fields)
        assert min(num.values()) >= 20
        with_many = Counter(
            name for row in rows[split] for name in fields if len(row.texts_of(name)) > 1
        )
        assert set(with_many) == {name for name, field in fields.items() if field.many}
        lacking = Counter(name for row in rows[split] for name in fields if not row.texts_of(name))
        assert set(lacking) == set(fields)


def test_values_come_out_and_records_meet_the_schema(
    rows: dict[str, tuple[Document, ...]], fields: dict[str, Field]
) -> None:
    validator = jsonschema.Draft202012Validator(
        record_schema(list(fields.values())),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    num: Counter[str] = Counter()
    without: Counter[str] = Counter()
    for row in itertools.chain.from_iterable(rows.values()):
        record: dict[str, Any] = {}
        for name, field in fields.items():
            words = row.texts_of(name)
            values = [value for one in words if (value := _value(field, one)) is not None]
            num[name] += len(words)
            without[name] += len(words) - len(values)
            if values:
                record[name] = values if field.many else values[0]
        assert list(validator.iter_errors(record)) == []
    # Decimal commas and a month before its day are in the data; numbers and means always give one.
    assert set(without.elements()) == {"total", "issue_date", "due_date"}
    assert all(without[name] / num[name] < 0.05 for name in without)


def test_nothing_in_bounds_is_refused_unseen(
    rows: dict[str, tuple[Document, ...]], spec: ExtractionSpec
) -> None:
    foreign = LanguageCheck(spec.input.languages).foreign
    for row in itertools.chain.from_iterable(rows[split] for split in SPLITS):
        assert foreign(row.text) is None, row.text
        assert len(row.text) <= spec.input.max_characters


def _value(field: Field, words: str) -> Any:
    try:
        return field.value(words)
    except NotNormalisedError:
        return None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
