"""What the rows of an extraction task look like: counts, fields, values, duplicates, leakage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgedistill.core.extraction import Document, Documents
from edgedistill.data.duplicates import normalised

#: Places and words that are shown.
NUM_SHOWN = 5
#: A field of fewer training spans is hardly learned.
FEW_SPANS = 20
#: A value of a label with fewer training rows is hardly learned.
FEW_ROWS = 10
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DocumentReport:
    """Rows, characters and spans a split, what stands twice, what stands in two splits.

    `lengths`: 50th, 95th and 100th percentile of characters. `num_spans`: by split and field.
    `num_labelled`: training rows by label and value. `num_conflicting`: training texts that stand
    with different spans or labels. `num_leaked`: rows whose text
    stands in the training split too, by split. `incomplete`: training rows without a required
    field, by field. `no_value`: spans whose words give no value, and some reasons, by field.
    `set_aside`: malformed rows by split, with their places and reasons.
    """

    num_rows: Mapping[str, int]
    lengths: Mapping[str, tuple[int, int, int]]
    num_spans: Mapping[str, Mapping[str, int]]
    num_duplicates: int
    num_conflicting: int
    num_leaked: Mapping[str, int]
    incomplete: Mapping[str, int]
    no_value: Mapping[str, tuple[int, Sequence[str]]]
    set_aside: Mapping[str, Sequence[str]]
    num_labelled: Mapping[str, Mapping[str, int]]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def findings(self) -> list[tuple[str, str]]:
        """(severity, sentence) for people: `info` or `warning`."""
        found = [
            ("info", f"{name}: {num:,} rows, {sum(self.num_spans[name].values()):,} spans, "
                     f"{self.lengths[name][0]} characters at the median, "
                     f"{self.lengths[name][2]} at most")
            for name, num in self.num_rows.items() if num
        ]  # fmt: skip
        found += [
            ("info", f"label {name!r}: {len(counts):,} values, the rarest in "
                     f"{min(counts.values()):,} training rows")
            for name, counts in self.num_labelled.items()
        ]  # fmt: skip
        found += [("warning", sentence) for sentence in self._warnings()]
        return found

    def _warnings(self) -> list[str]:
        few = {n: c for n, c in self.num_spans["train"].items() if c < FEW_SPANS}
        told = [f"field {name!r} has {num} training spans" for name, num in few.items()]
        for name, counts in self.num_labelled.items():
            rare = [f"{value!r} ({num})" for value, num in counts.items() if num < FEW_ROWS]
            if rare:
                told.append(
                    f"{len(rare)} values of label {name!r} have fewer than {FEW_ROWS} training "
                    f"rows: {', '.join(rare[:NUM_SHOWN])}"
                )
        told += [
            f"{num:,} training rows lack the required field {name!r}"
            for name, num in self.incomplete.items()
        ]
        told += [
            f"{num:,} spans of {name!r} give no value: {'; '.join(reasons)}"
            for name, (num, reasons) in self.no_value.items()
        ]
        if self.num_duplicates:
            told.append(f"{self.num_duplicates:,} training rows stand twice")
        if self.num_conflicting:
            told.append(
                f"{self.num_conflicting:,} training texts stand with different spans or labels"
            )
        for name, reasons in self.set_aside.items():
            tail = "".join(f"\n  {reason}" for reason in reasons[:NUM_SHOWN])
            first = f", the first {NUM_SHOWN}" if len(reasons) > NUM_SHOWN else ""
            told.append(f"{len(reasons):,} malformed rows of {name} set aside{first}:{tail}")
        told += [
            f"{num:,} texts of {name} stand in the training split too"
            for name, num in self.num_leaked.items()
            if num
        ]
        return told


def report_on_documents(
    rows: Documents,
    required: Mapping[str, bool],
    no_value: Mapping[str, Sequence[str]] = {},
    set_aside: Mapping[str, Sequence[str]] = {},
) -> DocumentReport:
    """Look at the splits.

    Args:
        required: the fields of the task, and whether each row needs one.
        no_value: why words of a field give no value, one reason a span.
    """
    keys = [normalised(text) for text in rows.texts("train")]
    pairs = Counter((key, row.spans, row.labels) for key, row in zip(keys, rows.train, strict=True))
    known = Counter(key for key, *_ in pairs)
    return DocumentReport(
        num_rows={split: len(rows.split(split)) for split in SPLITS},
        lengths={split: _lengths(rows.texts(split)) for split in SPLITS},
        num_spans={split: _num_spans(rows.split(split), required) for split in SPLITS},
        num_duplicates=sum(num - 1 for num in pairs.values()),
        num_conflicting=sum(num > 1 for num in known.values()),
        num_leaked={
            split: sum(normalised(text) in known for text in rows.texts(split))
            for split in SPLITS[1:]
        },
        incomplete={
            name: num
            for name in required
            if required[name] and (num := sum(not row.texts_of(name) for row in rows.train))
        },
        no_value={
            name: (len(reasons), tuple(reasons[:NUM_SHOWN]))
            for name, reasons in no_value.items()
            if reasons
        },
        set_aside={name: reasons for name, reasons in set_aside.items() if reasons},
        num_labelled=_num_labelled(rows),
    )


def _num_spans(rows: Sequence[Document], names: Mapping[str, bool]) -> dict[str, int]:
    counts = Counter(span.label for row in rows for span in row.spans)
    return {name: counts[name] for name in names}


def _num_labelled(rows: Documents) -> dict[str, dict[str, int]]:
    """Training rows by label and value."""
    found = {}
    for place, label in enumerate(rows.labels):
        counts = Counter(row.labels[place] for row in rows.train)
        found[label.name] = {value: counts[value] for value in label.values}
    return found


def _lengths(texts: Sequence[str]) -> tuple[int, int, int]:
    low, high, most = np.percentile([len(text) for text in texts], [50, 95, 100])
    return int(low), int(high), int(most)
