"""Inspect a data set before money is spent on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.task import InputSpec, TaskSpec
from edgedistill.data.data_report import (
    ClassBalance,
    DataReport,
    Groups,
    Leakage,
    LeakExample,
    OutsideLimits,
    RowReference,
    Statistics,
    UnseenCharacters,
)
from edgedistill.data.duplicates import conflicting_groups, duplicate_groups, find_leaks, normalised
from edgedistill.data.writing import splits_of

_NUM_EXAMPLES = 10
_LABELLED = ("train", "validation", "test")
# Where a row came from, where it must not come back, in the order of the report.
_LEAKAGE_PAIRS = (
    ("train", "validation"),
    ("train", "test"),
    ("validation", "test"),
    ("unlabelled", "test"),
    ("train", "edge_cases"),
    ("out_of_bounds.train", "out_of_bounds.validation"),
    ("out_of_bounds.train", "out_of_bounds.test"),
    ("out_of_bounds.validation", "out_of_bounds.test"),
)

CountTokens = Callable[[Sequence[str]], list[int]]
Splits = dict[str, tuple[Example, ...]]


def inspect(
    dataset: Dataset, spec: TaskSpec, *, count_tokens: CountTokens | None = None
) -> DataReport:
    """Measure what can go wrong with the rows; nothing is refused here.

    Args:
        dataset: the rows.
        spec: the task, for its input limits.
        count_tokens: tokens of each text, special ones included; without it the report has no
            token statistics, and the token limit is not checked.
    """
    splits = dict(splits_of(dataset))
    tokens = {} if count_tokens is None else _count_tokens(splits, count_tokens)
    return DataReport(
        num_rows={split: len(rows) for split, rows in splits.items()},
        num_quarantined=dataset.num_quarantined,
        class_balance=_class_balance(dataset),
        characters={
            split: _statistics([len(row.text) for row in rows]) for split, rows in splits.items()
        },
        tokens={split: _statistics(counts) for split, counts in tokens.items()},
        duplicates={
            split: _groups(duplicate_groups(rows), splits) for split, rows in splits.items()
        },
        conflicts=_groups(_conflicts(splits), splits),
        leakage=tuple(
            _leakage(splits, source, split)
            for source, split in _LEAKAGE_PAIRS
            if source in splits and split in splits
        ),
        unseen_characters=tuple(_unseen_characters(splits)),
        outside_limits=tuple(_outside_limits(splits, spec.input, tokens)),
        similar_labels=_similar_labels(dataset.labels),
    )


def _count_tokens(splits: Splits, count: CountTokens) -> dict[str, list[int]]:
    return {split: count([row.text for row in rows]) for split, rows in splits.items()}


def _statistics(counts: Sequence[int]) -> Statistics:
    values = np.asarray(counts)
    median, p95 = np.quantile(values, [0.5, 0.95], method="higher")
    return Statistics(
        least=int(values.min()),
        median=int(median),
        p95=int(p95),
        most=int(values.max()),
        mean=float(values.mean()),
    )


def _class_balance(dataset: Dataset) -> ClassBalance:
    num_rows = {}
    for split in _LABELLED:
        counts = Counter(row.label for row in getattr(dataset, split))
        num_rows[split] = {label: counts[label] for label in dataset.labels}
    train = np.array(list(num_rows["train"].values()))
    shares = train[train > 0] / train.sum()
    return ClassBalance(
        num_rows=num_rows,
        least=int(train.min()),
        most=int(train.max()),
        ratio=float(train.max() / max(train.min(), 1)),
        entropy_bits=float(-(shares * np.log2(shares)).sum()),
        max_entropy_bits=math.log2(len(train)),
    )


def _conflicts(splits: Splits) -> list[tuple[Example, ...]]:
    """Equal texts of different labels, or in bounds here and out of bounds there."""
    rows = [row for split, rows in splits.items() if split != "unlabelled" for row in rows]
    return conflicting_groups(rows)


def _groups(groups: list[tuple[Example, ...]], splits: Splits) -> Groups:
    shown = groups[:_NUM_EXAMPLES]
    split_of = _split_of([row for group in shown for row in group], splits)
    return Groups(
        num_groups=len(groups),
        num_rows=sum(len(group) for group in groups),
        examples=tuple(
            tuple(_reference(split_of[row.id], row) for row in group[:_NUM_EXAMPLES])
            for group in shown
        ),
    )


def _split_of(rows: Sequence[Example], splits: Splits) -> dict[str, str]:
    wanted = {row.id for row in rows}
    return {row.id: split for split, rows in splits.items() for row in rows if row.id in wanted}


def _reference(split: str, row: Example) -> RowReference:
    return RowReference(split, row.id, row.text, row.label)


def _leakage(splits: Splits, source: str, split: str) -> Leakage:
    leaks = find_leaks(splits[source], splits[split])
    num_exact = sum(leak.exact for leak in leaks)
    worst = sorted(leaks, key=lambda leak: (not leak.exact, -leak.similarity))[:_NUM_EXAMPLES]
    return Leakage(
        source=source,
        split=split,
        num_rows=len(splits[split]),
        num_exact=num_exact,
        num_near=len(leaks) - num_exact,
        examples=tuple(
            LeakExample(
                _reference(source, leak.source), _reference(split, leak.row), leak.similarity
            )
            for leak in worst
        ),
    )


def _unseen_characters(splits: Splits) -> list[UnseenCharacters]:
    seen = {character for row in splits.get("train", ()) for character in row.text}
    found = []
    for split in ("validation", "test"):
        rows_with: Counter[str] = Counter()
        num_rows = 0
        for row in splits.get(split, ()):
            unseen = set(row.text) - seen
            rows_with.update(unseen)
            num_rows += bool(unseen)
        if num_rows:
            ordered = sorted(rows_with.items(), key=lambda item: (-item[1], item[0]))
            found.append(UnseenCharacters(split, num_rows, dict(ordered)))
    return found


def _outside_limits(
    splits: Splits, limits: InputSpec, tokens: dict[str, list[int]]
) -> list[OutsideLimits]:
    found = []
    for split, rows in splits.items():
        if split.startswith("out_of_bounds"):
            continue  # refusing these is right
        counts = tokens.get(split, [0] * len(rows))
        short = [len(row.text.strip()) < limits.min_characters for row in rows]
        long = [len(row.text) > limits.max_characters for row in rows]
        many = [count > limits.max_tokens for count in counts]
        refused = [row for row, *why in zip(rows, short, long, many, strict=True) if any(why)]
        if refused:
            examples = tuple(_reference(split, row) for row in refused[:_NUM_EXAMPLES])
            found.append(OutsideLimits(split, sum(short), sum(long), sum(many), examples))
    return found


def _similar_labels(labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(normalised(label), []).append(label)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)
