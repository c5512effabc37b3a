"""From a task file's data section to the validated rows of the task."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.errors import DataError
from edgedistill.core.task import SplitRatios, TaskSpec
from edgedistill.data.hub import read_hub
from edgedistill.data.malformed import MalformedRows
from edgedistill.data.reading import (
    Columns,
    examples_of,
    file_rows,
    refuse_quarantine_in,
    require_file,
)
from edgedistill.data.splitting import stratified_split

_OUT_OF_BOUNDS = "out_of_bounds."
_NUM_SHOWN = 5
_GROUP = "group"

Splits = dict[str, tuple[Example, ...]]


def load_dataset(spec: TaskSpec, *, root: Path, quarantine: Path | None = None) -> Dataset:
    """Read, check and split all rows that a task names.

    Ids are those of `data.id_column`, or `FILE NAME:LINE` (the path as the task file has it,
    where two files share a name). The unlabelled pool and out-of-bounds files need the text
    column only, and always have ids by line. Splits without a file are cut from the training
    rows (see `stratified_split`).

    Args:
        spec: the task.
        root: folder that relative paths start from: that of the task file.
        quarantine: where malformed rows are set aside if `data.on_malformed` is `quarantine`;
            with None, or with `refuse`, malformed rows refuse the data.

    Raises:
        DataError: files, rows, ids or labels are wrong; says which, and what would be right.
        MissingExtra: Parquet files or a hub data set without the packages that read them.
        StorageError: the quarantine cannot be written.
    """
    if spec.data.on_malformed == "refuse":
        quarantine = None
    splits, num_malformed = _read_all(spec, root, quarantine)
    _require_unique_ids(splits)
    labels = _closed_labels(spec.output.labels, splits["train"])
    _require_known_labels(splits, labels)
    splits = _with_missing_splits(splits, spec.data.split_ratios, spec.data.split_seed)
    return Dataset(
        labels=labels,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        unlabelled=splits.get("unlabelled", ()),
        edge_cases=splits.get("edge_cases", ()),
        out_of_bounds={
            name.removeprefix(_OUT_OF_BOUNDS): rows
            for name, rows in splits.items()
            if name.startswith(_OUT_OF_BOUNDS)
        },
        num_quarantined=num_malformed,
    )


def _read_all(spec: TaskSpec, root: Path, quarantine: Path | None) -> tuple[Splits, int]:
    sources = _sources(spec)
    paths = {split: root / name for split, name in sources.items()}
    for path in paths.values():
        require_file(path)
    _require_different_files(paths)
    refuse_quarantine_in(quarantine, paths.values())
    data = spec.data
    labelled = Columns(data.text_column, data.label_column, data.id_column)
    with MalformedRows(quarantine) as malformed:
        splits = read_hub(data.hub, labelled, malformed) if data.hub else {}
        for split, path in paths.items():
            is_labelled = split in ("train", "validation", "test", "edge_cases")
            columns = labelled if is_labelled else Columns(data.text_column, group=_GROUP)
            splits[split] = examples_of(
                file_rows(path, columns),
                columns,
                malformed,
                file=str(path),
                id_prefix=_id_prefix(split, sources),
            )
    return splits, malformed.num_rows


def _sources(spec: TaskSpec) -> dict[str, str]:
    """Split to the file that the task names for it."""
    files, out_of_bounds = spec.data.files, spec.boundary.out_of_bounds
    named = {
        "train": files.train if files else None,
        "validation": files.validation if files else None,
        "test": files.test if files else None,
        "unlabelled": spec.data.unlabelled,
        "edge_cases": spec.boundary.edge_cases,
        f"{_OUT_OF_BOUNDS}train": out_of_bounds.train,
        f"{_OUT_OF_BOUNDS}validation": out_of_bounds.validation,
        f"{_OUT_OF_BOUNDS}test": out_of_bounds.test,
    }
    return {split: name for split, name in named.items() if name is not None}


def _id_prefix(split: str, sources: Mapping[str, str]) -> str:
    name = Path(sources[split]).name
    is_shared = sum(Path(other).name == name for other in sources.values()) > 1
    return sources[split] if is_shared else name


def _require_different_files(paths: Mapping[str, Path]) -> None:
    first: dict[Path, str] = {}
    for split, path in paths.items():
        other = first.setdefault(path.resolve(), split)
        if other != split:
            raise DataError(
                f"{other} and {split} name the same file",
                where=str(path),
                fix="give each its own rows; validation and test can be cut from train: "
                "leave them out",
            )


def _require_unique_ids(splits: Splits) -> None:
    first: dict[str, str] = {}
    twice = []
    for split, rows in splits.items():
        for row in rows:
            if first.setdefault(row.id, split) != split:
                twice.append(f"{row.id[:60]!r} ({first[row.id]}, {split})")
    if twice:
        raise DataError(
            f"{len(twice):,} ids stand in two splits: {_shortened(twice)}",
            fix="make ids unique over all files, or leave out data.id_column to number the rows",
        )


def _closed_labels(declared: tuple[str, ...] | None, train: Sequence[Example]) -> tuple[str, ...]:
    """The declared labels, or those of the training rows in order."""
    used = {row.label or "" for row in train}
    if len(used) == 1:
        raise DataError(
            f"all {len(train):,} training rows have the label {used.pop()!r}",
            fix="give rows of at least two labels",
        )
    if declared is None:
        return tuple(sorted(used))
    idle = [label for label in declared if label not in used]
    if idle:
        raise DataError(
            f"{len(idle)} declared label(s) have no training row: "
            f"{_shortened([repr(label) for label in idle])}",
            where="output.labels",
            fix=f"give training rows for them or leave them out{_nearest(idle[0], used)}",
        )
    _require_labels_in("the declared labels lack", {"train": train}, declared)
    return declared


def _require_known_labels(splits: Splits, labels: tuple[str, ...]) -> None:
    scored = {name: splits.get(name, ()) for name in ("validation", "test", "edge_cases")}
    _require_labels_in("the training rows lack", scored, labels)


def _require_labels_in(
    complaint: str, splits: Mapping[str, Sequence[Example]], labels: tuple[str, ...]
) -> None:
    known = set(labels)
    strangers: dict[str, list[str]] = {}
    for split, rows in splits.items():
        for row in rows:
            if row.label is not None and row.label not in known:
                strangers.setdefault(row.label, []).append(f"{split} {row.id}")
    if strangers:
        listed = "\n  ".join(
            f"{label!r} in {len(ids):,} row(s): {_shortened(ids)}"
            for label, ids in list(strangers.items())[:20]
        )
        raise DataError(
            f"{complaint} {len(strangers)} label(s) of the rows:\n  {listed}",
            fix=f"correct these labels, or give training rows for them and declare them"
            f"{_nearest(next(iter(strangers)), known)}",
        )


def _with_missing_splits(splits: Splits, ratios: SplitRatios, seed: int) -> Splits:
    shares = {name: getattr(ratios, name) for name in ("validation", "test") if name not in splits}
    return splits | stratified_split(splits["train"], shares, seed=seed) if shares else splits


def _nearest(label: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(label, sorted(known), n=1)
    return f" (is {label!r} meant to be {near[0]!r}?)" if near else ""


def _shortened(items: Sequence[str]) -> str:
    more = len(items) - _NUM_SHOWN
    return ", ".join(items[:_NUM_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
