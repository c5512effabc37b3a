"""What an inspection found: figures for machines, findings for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["note", "warning"]
Finding = tuple[Severity, str]

_IMBALANCE_WARNING = 10.0
_FEW_ROWS = 10
_NEAR_LEAK_WARNING = 0.01


@dataclass(frozen=True)
class RowReference:
    """A row as it is named in the report."""

    split: str
    id: str
    text: str
    label: str | None


@dataclass(frozen=True)
class Statistics:
    """Spread of a count over the rows of a split; quantiles are observed values."""

    least: int
    median: int
    p95: int
    most: int
    mean: float


@dataclass(frozen=True)
class ClassBalance:
    """Rows of each label in train, validation and test; the rest is about train.

    `ratio`: most over least. `entropy_bits` in [0, `max_entropy_bits`]; equal if balanced.
    """

    num_rows: dict[str, dict[str, int]]
    least: int
    most: int
    ratio: float
    entropy_bits: float
    max_entropy_bits: float


@dataclass(frozen=True)
class Groups:
    """Groups of rows with equal texts; `examples` shows the first of them."""

    num_groups: int
    num_rows: int
    examples: tuple[tuple[RowReference, ...], ...]


@dataclass(frozen=True)
class LeakExample:
    """A row and the one it (nearly) repeats."""

    source: RowReference
    row: RowReference
    similarity: float


@dataclass(frozen=True)
class Leakage:
    """Rows of `split` that stand in `source`, exactly (normalised) or nearly."""

    source: str
    split: str
    num_rows: int
    num_exact: int
    num_near: int
    examples: tuple[LeakExample, ...]


@dataclass(frozen=True)
class UnseenCharacters:
    """Characters of a split that no training row has, with the number of rows they are in."""

    split: str
    num_rows: int
    characters: dict[str, int]


@dataclass(frozen=True)
class OutsideLimits:
    """Rows of a split that the input limits of the task refuse."""

    split: str
    num_too_short: int
    num_too_long: int
    num_too_many_tokens: int
    examples: tuple[RowReference, ...]


@dataclass(frozen=True)
class DataReport:
    """Everything an inspection measured. Lists of examples hold at most ten."""

    num_rows: dict[str, int]
    num_quarantined: int
    class_balance: ClassBalance
    characters: dict[str, Statistics]
    tokens: dict[str, Statistics]
    duplicates: dict[str, Groups]
    conflicts: Groups
    leakage: tuple[Leakage, ...]
    unseen_characters: tuple[UnseenCharacters, ...]
    outside_limits: tuple[OutsideLimits, ...]
    similar_labels: tuple[tuple[str, ...], ...]

    def as_json(self) -> dict[str, Any]:
        """The figures as plain values for JSON."""
        return asdict(self)

    def findings(self) -> list[Finding]:
        """What a person should know, warnings first; empty where nothing was found."""
        found = [
            *self._row_findings(),
            *self._class_findings(),
            *self._leakage_findings(),
            *self._input_findings(),
        ]
        return sorted(found, key=lambda finding: finding[0] != "warning")

    def _row_findings(self) -> Iterator[Finding]:
        if self.num_quarantined:
            yield "warning", f"Malformed rows set aside: {self.num_quarantined:,}."
        if self.conflicts.num_groups:
            yield (
                "warning",
                f"Texts with different labels: {self.conflicts.num_groups:,} "
                f"({self.conflicts.num_rows:,} rows), such as {_shown(self.conflicts)}.",
            )
        for split, groups in self.duplicates.items():
            if groups.num_groups:
                surplus = groups.num_rows - groups.num_groups
                yield "note", f"Rows of {split} that repeat another row of it: {surplus:,}."

    def _class_findings(self) -> Iterator[Finding]:
        balance = self.class_balance
        for labels in self.similar_labels:
            names = ", ".join(repr(label) for label in labels)
            yield "warning", f"Labels differ only in case, space or punctuation: {names}."
        if balance.ratio >= _IMBALANCE_WARNING:
            yield (
                "warning",
                f"The classes are unbalanced: {balance.most:,} training rows for the most "
                f"frequent label, {balance.least:,} for the rarest.",
            )
        if few := [n for n, count in balance.num_rows["train"].items() if count < _FEW_ROWS]:
            yield (
                "warning",
                f"Labels with fewer than {_FEW_ROWS} training rows: {_listed(few)}.",
            )
        for split in ("validation", "test"):
            if absent := [n for n, count in balance.num_rows[split].items() if not count]:
                yield "warning", f"Labels without a {split} row: {_listed(absent)}."

    def _leakage_findings(self) -> Iterator[Finding]:
        for leak in self.leakage:
            if leak.num_exact:
                yield (
                    "warning",
                    f"Rows of {leak.split} that stand in {leak.source} too (equal but for case, "
                    f"space and punctuation): {_share(leak.num_exact, leak.num_rows)}.",
                )
            if leak.num_near:
                is_large = leak.num_near >= _NEAR_LEAK_WARNING * leak.num_rows
                yield (
                    "warning" if is_large else "note",
                    f"Rows of {leak.split} that are nearly equal to a row of {leak.source}: "
                    f"{_share(leak.num_near, leak.num_rows)}.",
                )

    def _input_findings(self) -> Iterator[Finding]:
        for limits in self.outside_limits:
            reasons = {
                "too short": limits.num_too_short,
                "too long": limits.num_too_long,
                "too many tokens": limits.num_too_many_tokens,
            }
            parts = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
            yield "warning", f"Rows of {limits.split} that the input limits refuse: {parts}."
        for unseen in self.unseen_characters:
            shown = " ".join(
                ascii(c)[1:-1] if not c.isprintable() else c for c in list(unseen.characters)[:10]
            )
            yield (
                "note",
                f"Rows of {unseen.split} with characters that train lacks: "
                f"{unseen.num_rows:,} ({shown}).",
            )


def _share(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({count / total:.2%})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return f"{len(names):,} ({', '.join(names[:5])}{more})"


def _shown(groups: Groups) -> str:
    first = groups.examples[0]
    labels = sorted({row.label or "out of bounds" for row in first})
    text = first[0].text
    return f"{text if len(text) <= 80 else text[:80] + '…'!r} ({', '.join(labels)})"
