"""What the rows of a generation task look like: counts, lengths, duplicates, leakage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgedistill.core.conversation import Conversation

#: Malformed rows whose places are shown.
NUM_SHOWN = 5


@dataclass(frozen=True)
class ConversationReport:
    """Rows and characters a split, what stands twice, and what stands in two splits.

    `lengths`: 50th, 95th and 100th percentile of characters of prompt and response together.
    `num_conflicting`: training prompts that stand with different responses. `num_leaked`: test
    prompts that stand in the training split too, by split; `num_asked`: that stand among the
    prompts without answers. `set_aside`: malformed rows by split,
    with their places and reasons.
    """

    num_rows: Mapping[str, int]
    lengths: Mapping[str, tuple[int, int, int]]
    num_hard: int
    num_duplicates: int
    num_conflicting: int
    num_leaked: Mapping[str, int]
    num_asked: Mapping[str, int]
    set_aside: Mapping[str, Sequence[str]]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def findings(self) -> list[tuple[str, str]]:
        """(severity, sentence) for people: `info` or `warning`."""
        found = [
            ("info", f"{name}: {num:,} rows, {self.lengths[name][0]} characters at the median, "
                     f"{self.lengths[name][2]} at most")
            for name, num in self.num_rows.items() if num
        ]  # fmt: skip
        if self.num_hard:
            found.append(("info", f"{self.num_hard:,} training rows have a draft or a thinking"))
        if self.num_duplicates:
            found.append(("warning", f"{self.num_duplicates:,} training rows stand twice"))
        if self.num_conflicting:
            found.append(
                ("warning", f"{self.num_conflicting:,} training prompts have several responses")
            )
        for name, reasons in self.set_aside.items():
            tail = "".join(f"\n  {reason}" for reason in reasons[:NUM_SHOWN])
            first = f", the first {NUM_SHOWN}" if len(reasons) > NUM_SHOWN else ""
            found.append(
                ("warning", f"{len(reasons):,} malformed rows of {name} set aside{first}:{tail}")
            )
        found += [
            ("warning", f"{num:,} prompts of {name} stand in the training split too")
            for name, num in self.num_leaked.items()
            if num
        ]
        found += [
            ("warning", f"{num:,} prompts of {name} stand among those without answers too")
            for name, num in self.num_asked.items()
            if num
        ]
        return found


def report_on(
    splits: Mapping[str, Sequence[Conversation]],
    set_aside: Mapping[str, Sequence[str]] = {},
    unlabelled: Sequence[str] = (),
) -> ConversationReport:
    """Look at the splits; `train` is one of them. `unlabelled`: prompts without answers."""
    train = splits["train"]
    prompts = [_prompt(row) for row in train]
    pairs = Counter((prompt, row.response) for prompt, row in zip(prompts, train, strict=True))
    known = Counter(prompt for prompt, _ in pairs)
    seen = set(prompts)
    return ConversationReport(
        num_rows={name: len(rows) for name, rows in splits.items()},
        lengths={name: _lengths(rows) for name, rows in splits.items()},
        num_hard=sum(row.is_hard for row in train),
        num_duplicates=sum(num - 1 for num in pairs.values()),
        num_conflicting=sum(num > 1 for num in known.values()),
        num_leaked=_num_within(seen, splits),
        num_asked=_num_within(set(unlabelled), splits),
        set_aside={name: reasons for name, reasons in set_aside.items() if reasons},
    )


def _num_within(prompts: set[str], splits: Mapping[str, Sequence[Conversation]]) -> dict[str, int]:
    """How many rows of each held-out split have one of these prompts."""
    held_out = {name: rows for name, rows in splits.items() if name != "train"}
    return {name: sum(_prompt(row) in prompts for row in rows) for name, rows in held_out.items()}


def _prompt(row: Conversation) -> str:
    return "\n".join(turn.content for turn in row.prompt)


def _lengths(rows: Sequence[Conversation]) -> tuple[int, int, int]:
    lengths = [sum(len(turn.content) for turn in row.turns) for row in rows] or [0]
    low, high, most = np.percentile(lengths, [50, 95, 100])
    return int(low), int(high), int(most)
