"""A trial's files: measured no further than it takes to know which would be kept."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from edgedistill.core.requirements import BundleRequirements
from edgedistill.pipeline.search import CONTROL, is_untrained
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.side_by_side import side_by_side
from edgedistill.pipeline.stages.variants import Variant, choose_variant, serves, smallest_of


def files(folder: Path, **sizes: int) -> dict[tuple[str, ...], Path]:
    """Of so many bytes, by a pass each; `full` by none."""
    made = dict[tuple[str, ...], Path]()
    for name, size in sizes.items():
        path = folder / name
        path.write_bytes(bytes(size))
        made[() if name == "full" else (name,)] = path
    return made


def test_the_smallest_is_read_beside_full_precision(tmp_path: Path) -> None:
    found = files(tmp_path, full=4000, half=2000, eight=1020, four=1000)
    assert [*smallest_of(found, 0)] == [(), ("eight",), ("four",)]
    # What ships beside each makes them more alike.
    assert [*smallest_of(found, 60_000)] == [(), ("half",), ("eight",), ("four",)]
    assert [*smallest_of(files(tmp_path, full=4000, eight=1040, four=1000), 0)] == [(), ("four",)]
    assert [*smallest_of(files(tmp_path, full=4000), 0)] == [()]


def variant(passes: tuple[str, ...], size_bytes: int, p95_ms: float, accuracy: float) -> Variant:
    return Variant(passes, size_bytes, accuracy, 1.0, p95_ms, p95_ms)


@pytest.mark.parametrize(
    ("accuracy", "required", "enough"),
    [
        (0.95, {}, True),
        (0.90, {}, False),
        (0.95, {"latency_p95_ms": 1.0}, False),
        (0.95, {"latency_p95_ms": 2.5}, True),
        (0.95, {"size_mb": 0.0005, "latency_p95_ms": 1.0}, True),
        (0.90, {"size_mb": 0.0005}, False),
    ],
    ids=["good", "costs quality", "too slow", "quick enough", "too large", "large and bad"],
)  # fmt: skip
def test_others_are_read_where_the_smallest_does_not_serve(
    accuracy: float, required: dict[str, Any], enough: bool
) -> None:
    asked = BundleRequirements.model_validate(required)
    both = [variant((), 4000, 3.0, 0.95), variant(("four",), 1000, 2.0, accuracy)]
    assert serves(choose_variant(both, asked), asked) is enough


def test_networks_answer_in_their_order_whoever_is_done_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    second_is_done = threading.Event()

    def read(network: Any) -> str:
        if network == "second":
            second_is_done.set()
        else:
            assert second_is_done.wait(10)
        return f"{network} read"

    networks: list[Any] = ["first", "second"]
    assert side_by_side(read, networks, threads=1) == ["first read", "second read"]


def test_a_network_of_all_cores_answers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    at_once, most = [0], [0]

    def read(network: Any) -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.01)
        at_once[0] -= 1

    networks: list[Any] = [1, 2, 3]
    side_by_side(read, networks, threads=2)
    assert most == [1]


def test_fewer_words_alone_call_for_no_training() -> None:
    def compressed(*names: str) -> Candidate:
        return Candidate("compressed", "own", {"passes": [{"name": name} for name in names]})

    assert is_untrained(compressed())
    assert is_untrained(compressed("prune_vocabulary"))
    assert not is_untrained(compressed("prune_vocabulary", "drop_layers"))
    assert not is_untrained(CONTROL)
