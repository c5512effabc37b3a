"""The report's table of what a training paid: which epochs it shows, and where there is none."""

from __future__ import annotations

import pytest

from edgedistill.evaluate.report.blocks import Table
from edgedistill.evaluate.report.content import Making, TrainingCurve
from edgedistill.evaluate.report.provenance import making_section


def tables(num_epochs: int, *names: str) -> list[Table]:
    values = tuple(float(epoch) for epoch in range(1, num_epochs + 1))
    curve = TrainingCurve("student", "closeness", values, tuple((name, values) for name in names))
    blocks = making_section(Making(curves=(curve,))).blocks
    return [block for block in blocks if isinstance(block, Table)]


@pytest.mark.parametrize(
    ("num_epochs", "shown"),
    [(1, [1]), (2, [1, 2]), (6, [1, 2, 3, 4, 5, 6]), (7, [1, 2, 3, 5, 6, 7]),
     (51, [1, 11, 21, 31, 41, 51])],
)  # fmt: skip
def test_first_and_last_epoch_are_shown_and_some_between(num_epochs: int, shown: list[int]) -> None:
    (table,) = tables(num_epochs, "response/soft", "feature/states")
    assert table.headings == ("Loss term", *(f"Epoch {epoch}" for epoch in shown))
    assert table.rows[1] == ("feature/states", *(f"{epoch:g}" for epoch in shown))
    assert table.numeric == frozenset(range(1, len(shown) + 1))
    assert "student" in table.caption


def test_a_single_term_is_what_the_curve_shows_already() -> None:
    assert tables(5, "cross_entropy") == []
    assert tables(5) == []
