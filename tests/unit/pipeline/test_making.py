"""The report's section on how a bundle was made tells what the spike guard did."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edgedistill.pipeline.report_basis import making

SPIKE = {"epoch": 2, "batch": 41, "loss": 9.1, "limit": 2.0, "rate": 0.25}


def record(*spikes: dict[str, Any]) -> dict[str, Any]:
    return {"history": [{"validation": 0.5}], "spikes": list(spikes)}


def test_rollbacks_are_told(tmp_path: Path) -> None:
    context: Any = SimpleNamespace(spec=SimpleNamespace(seed=3), store=SimpleNamespace(results=[]))
    trained = [
        ("teacher", "accuracy", record(SPIKE, SPIKE | {"epoch": 3, "rate": 0.0625})),
        ("student", "accuracy", record()),
        ("control", "accuracy", {"history": []}),
    ]
    found = making(context, trained, notes=("A note.",))
    assert found.seeds == (3,)
    assert found.notes[0] == "A note."
    (told,) = found.notes[1:]
    assert "The loss of the teacher jumped" in told
    assert "epoch 2, batch 41: loss 9.1, then 0.25 of the planned rate" in told
    assert "epoch 3, batch 41: loss 9.1, then 0.062 of the planned rate" in told
    assert [curve.name for curve in found.curves] == ["teacher", "student"]


def test_terms_are_told_by_epoch_and_cost_nothing_where_they_were_not_asked_for() -> None:
    context: Any = SimpleNamespace(spec=SimpleNamespace(seed=3), store=SimpleNamespace(results=[]))
    first = {"soft": 2.0, "epoch": 1, "validation": 0.5, "seconds": 9.0}
    history = [first, first | {"soft": 1.0, "drawn": 4.0, "validation": 0.7}]
    (curve,) = making(context, [("student", "accuracy", {"history": history})]).curves
    assert curve.values == (0.5, 0.7)
    assert curve.terms == (("soft", (2.0, 1.0)), ("drawn", (0.0, 4.0)))
