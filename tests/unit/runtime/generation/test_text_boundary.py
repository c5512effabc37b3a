"""The boundary of prompts: surprisal by hand, files, malformed settings."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgedistill.core.errors import BundleError
from edgedistill.evaluate.text_boundary import NUM_BUCKETS, fit_boundary, fit_surprisal
from edgedistill.runtime.generation.boundary import PRIOR, TextBoundary, pair_buckets, surprisal


def test_surprisal_by_hand() -> None:
    arrays = fit_surprisal([np.array([3, 1]), np.array([3, 1]), np.array([2])], 5)
    assert arrays["tokens"].tolist() == [0, 2, 1, 2, 0]
    alone = {t: (n + 1) / (5 + 5) for t, n in enumerate([0, 2, 1, 2, 0])}
    # The first token has no context: of three texts, two began with 3.
    first = (2 + PRIOR * alone[3]) / (2 + PRIOR)
    second = (2 + PRIOR * alone[1]) / (2 + PRIOR)
    expected = -(math.log(first) + math.log(second)) / 2
    assert surprisal([3, 1], arrays["tokens"], arrays["pairs"]) == pytest.approx(expected)


def test_what_training_showed_surprises_less() -> None:
    rng = np.random.default_rng(0)
    train = [np.cumsum(rng.integers(1, 3, 12)) % 40 for _ in range(300)]
    arrays = fit_surprisal(train, 50)
    inside = [surprisal(np.cumsum(rng.integers(1, 3, 12)) % 40, **arrays) for _ in range(50)]
    outside = [surprisal(rng.integers(0, 50, 12), **arrays) for _ in range(50)]
    assert max(inside) < min(outside)


@pytest.mark.parametrize("ids", [[], [0], [4], [4] * 500])
def test_any_ids_have_a_finite_score(ids: list[int]) -> None:
    arrays = fit_surprisal([np.array([1, 2, 3])], 5)
    assert math.isfinite(surprisal(ids, **arrays))
    assert surprisal([], **arrays) == 0.0


def test_buckets_tell_order_and_begin_apart() -> None:
    one, two = (
        pair_buckets(np.array([7, 9]), NUM_BUCKETS),
        pair_buckets(np.array([9, 7]), NUM_BUCKETS),
    )
    assert len({*one.tolist(), *two.tolist()}) == 4


def test_files_read_back_and_repeat() -> None:
    arrays = fit_surprisal([np.array([1, 2, 3])], 5)
    made = TextBoundary("surprisal", 4.25, 0.05, arrays)
    files = made.to_files()
    again = TextBoundary.from_files(files)
    assert again.threshold == 4.25
    assert again.prompt_score([1, 2]) == made.prompt_score([1, 2])
    assert again.to_files() == files
    assert TextBoundary("doubt", 1.0, 0.05).prompt_score([1, 2]) is None


@pytest.mark.parametrize(
    "changes",
    [{"score": "perplexity"}, {"threshold": "high"}, {"threshold": None}, {"score": "surprisal"}],
)
def test_malformed_settings_are_refused(changes: dict[str, object]) -> None:
    settings = {"score": "doubt", "threshold": 1.0, "false_abstention_rate": 0.05} | changes
    with pytest.raises(BundleError):
        TextBoundary.from_files({"guard.json": json.dumps(settings).encode()})


def test_the_better_score_is_chosen_and_calibrated() -> None:
    rng = np.random.default_rng(0)
    inside = {"surprisal": rng.normal(0, 1, 400), "doubt": rng.normal(0, 1, 400)}
    outside = {"surprisal": rng.normal(0.5, 1, 100), "doubt": rng.normal(3, 1, 100)}
    arrays = fit_surprisal([np.array([1])], 3)
    fitted = fit_boundary(inside, outside, 0.1, arrays)
    assert fitted.boundary.kind == "doubt"
    assert not fitted.boundary.arrays
    assert (inside["doubt"] > fitted.boundary.threshold).mean() == pytest.approx(0.1, abs=0.01)
    assert fitted.aurocs["doubt"] > 0.95
    plain = fit_boundary(inside, {}, 0.1, arrays)
    assert plain.boundary.kind == "surprisal"
    few = fit_boundary({"surprisal": np.zeros(3), "doubt": np.zeros(3)}, {}, 0.1, arrays)
    assert few.boundary.prompt_score([1]) is not None
    assert few.boundary.threshold > 1e300
