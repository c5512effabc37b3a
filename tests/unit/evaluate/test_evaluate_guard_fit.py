import sys
from dataclasses import replace

import numpy as np
import pytest

from edgedistill.evaluate.guard_arrays import Outputs, fit_feature_distance, fit_trained
from edgedistill.evaluate.guard_fit import (
    LEAST_MARGIN,
    LOW_RANK,
    GuardRows,
    ScoreFit,
    calibrate_guard,
    fit_guard,
)
from edgedistill.evaluate.metrics import auroc
from edgedistill.runtime.guard.boundary import Guard
from edgedistill.runtime.guard.catalogue import SCORES

NUM_CLASSES, DIM = 5, 40
CENTRES = np.random.default_rng(99).normal(size=(NUM_CLASSES, DIM)) * 1.5


def _inside(num_rows: int, seed: int) -> tuple[Outputs, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.arange(num_rows) % NUM_CLASSES
    features = (CENTRES[targets] + rng.normal(size=(num_rows, DIM))).astype(np.float32)
    return Outputs(features @ CENTRES.T.astype(np.float32) / 20, features), targets


def _outside(num_rows: int, seed: int, *, shift: float = 0.0, weak: float = 1.0) -> Outputs:
    """Far in feature space by `shift` along a direction that the logits do not see."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num_rows, DIM)) + weak * CENTRES[rng.integers(0, 5, num_rows)]
    hidden = np.linalg.svd(CENTRES)[2][-1]
    features = (features + shift * hidden).astype(np.float32)
    return Outputs(features @ CENTRES.T.astype(np.float32) / 20, features)


def _rows(**outside: Outputs) -> GuardRows:
    train, train_targets = _inside(600, 0)
    validation, validation_targets = _inside(400, 1)
    return GuardRows(train, train_targets, validation, validation_targets, **outside)


def test_without_out_of_bounds_examples_it_is_the_energy_and_says_so() -> None:
    fitted = fit_guard(_rows(), 0.05)
    assert fitted.guard.kind == "energy"
    assert fitted.array_bytes == 0
    assert "no out-of-bounds examples" in fitted.reason
    assert [score.auroc for score in fitted.scores] == [None]


def test_every_score_of_the_catalogue_is_measured_and_the_table_names_the_chosen() -> None:
    rows = _rows(out_of_bounds_train=_outside(60, 2), out_of_bounds_validation=_outside(60, 3))
    fitted = fit_guard(rows, 0.05)
    assert {score.kind for score in fitted.scores} == set(SCORES)
    assert all(score.auroc is not None for score in fitted.scores)
    assert [score.kind for score in fitted.scores if score.chosen] == [fitted.guard.kind]
    assert fitted.reason.startswith(fitted.guard.kind)


def test_a_shift_that_only_features_show_is_found_by_their_distance() -> None:
    rows = _rows(
        out_of_bounds_train=_outside(60, 2, shift=8),
        out_of_bounds_validation=_outside(60, 3, shift=8),
    )
    fitted = fit_guard(rows, 0.05)
    by_kind = {(s.kind, s.rank): s for s in fitted.scores}
    assert by_kind["feature_distance", None].auroc > 0.95 > by_kind["energy", None].auroc  # type: ignore[operator]
    assert fitted.guard.kind in ("feature_distance", "trained")
    assert 0 < by_kind["trained", LOW_RANK].array_bytes < by_kind["trained", None].array_bytes


@pytest.mark.parametrize(
    ("weak", "chosen", "rank"),
    [(0.4, "energy", None), (0.5, "trained", LOW_RANK), (0.7, "trained", None)],
)
def test_the_smallest_within_the_margin_is_chosen(weak: float, chosen: str, rank: int) -> None:
    rows = _rows(
        out_of_bounds_train=_outside(60, 2, weak=weak),
        out_of_bounds_validation=_outside(60, 3, weak=weak),
    )
    fitted = fit_guard(rows, 0.05)
    best = max(fitted.scores, key=lambda score: score.auroc or 0)
    found = next(score for score in fitted.scores if score.chosen)
    assert (best.kind, best.rank) == ("trained", None)
    assert (found.kind, found.rank) == (chosen, rank)
    error = _bootstrap_error(rows, found, best)
    assert (found.auroc or 0) >= (best.auroc or 0) - max(LEAST_MARGIN, 1.1 * error)
    assert fitted.array_bytes == found.array_bytes
    assert ("and smaller" in fitted.reason) == (found is not best)


def _bootstrap_error(rows: GuardRows, first: ScoreFit, second: ScoreFit) -> float:
    """Spread of the difference of two AUROCs over resampled rows."""
    outside = rows.out_of_bounds_validation
    assert outside is not None
    scores = []
    for fit in (first, second):
        guard = fit_guard(rows, 0.05, kinds=(fit.kind,)).guard
        scores.append([guard.scores(o.logits, o.features) for o in (rows.validation, outside)])
    rng, found = np.random.default_rng(0), []
    for _ in range(500):
        low, high = (rng.integers(0, len(s), len(s)) for s in scores[0])
        found.append(np.subtract(*(auroc(a[low], b[high]) for a, b in scores)))
    return float(np.std(found))


def test_scores_that_take_too_much_room_are_left_out_and_say_so() -> None:
    rows = _rows(
        out_of_bounds_train=_outside(60, 2, shift=8),
        out_of_bounds_validation=_outside(60, 3, shift=8),
    )
    free = fit_guard(rows, 0.05)
    held = fit_guard(rows, 0.05, most_bytes=free.array_bytes - 1)
    assert held.array_bytes < free.array_bytes
    dear = [s for s in held.scores if "over the size asked for" in s.note]
    assert dear
    assert all(s.auroc is None and not s.chosen for s in dear)
    assert fit_guard(rows, 0.05, most_bytes=0).array_bytes == 0


def test_the_only_out_of_bounds_set_never_scores_a_fit_on_itself() -> None:
    """Pure noise as out of bounds: a fit that saw its own test rows would look better."""
    inside, _ = _inside(30, 7)
    rows = _rows(out_of_bounds_validation=inside)
    trained = next(s for s in fit_guard(rows, 0.05).scores if s.kind == "trained")
    assert trained.auroc is not None
    assert trained.auroc < 0.65


def test_too_few_out_of_bounds_rows_leave_the_trained_score_out_with_a_note() -> None:
    fitted = fit_guard(_rows(out_of_bounds_validation=_outside(6, 3)), 0.05)
    trained = next(score for score in fitted.scores if score.kind == "trained")
    assert trained.auroc is None
    assert "too few" in trained.note
    assert not trained.chosen


def test_threshold_keeps_the_rate_on_fresh_rows() -> None:
    rows = _rows(out_of_bounds_train=_outside(60, 2), out_of_bounds_validation=_outside(60, 3))
    fresh, _ = _inside(4000, 5)
    for kind in SCORES:
        fitted = fit_guard(rows, 0.1, kinds=(kind,))
        refused = fitted.guard.scores(fresh.logits, fresh.features) > fitted.guard.threshold
        assert 0.05 < refused.mean() < 0.16, kind
        assert fitted.conformal.measured_rate <= 0.1


def test_too_few_validation_rows_refuse_nothing_and_the_guard_still_writes() -> None:
    validation, targets = _inside(10, 1)
    fitted = fit_guard(replace(_rows(), validation=validation, validation_targets=targets), 0.05)
    assert fitted.guard.threshold == sys.float_info.max
    assert "10 in-bounds" in fitted.conformal.reason
    assert Guard.from_files(fitted.guard.to_files()).threshold == sys.float_info.max


def test_calibrating_again_moves_threshold_and_temperature_but_not_the_arrays() -> None:
    validation, targets = _inside(400, 1)
    targets = np.where(np.arange(400) % 7 == 0, 0, targets)
    arrays = fit_feature_distance(*_features_and_targets())
    before, _ = calibrate_guard("feature_distance", arrays, validation, targets, 0.05)
    moved = Outputs(validation.logits * 2, validation.features * 1.5)
    after, conformal = calibrate_guard("feature_distance", before.arrays, moved, targets, 0.05)
    assert after.arrays is before.arrays
    assert after.temperature == pytest.approx(2 * before.temperature, rel=1e-3)
    assert after.threshold == conformal.threshold > before.threshold


def _features_and_targets() -> tuple[np.ndarray, np.ndarray]:
    train, targets = _inside(600, 0)
    return train.features, targets


def test_low_rank_keeps_what_separates_the_classes() -> None:
    features, targets = _features_and_targets()
    arrays = fit_feature_distance(features, targets, rank=4)
    assert arrays["whitening"].shape == (DIM, 4)
    whitened = features @ arrays["whitening"]
    nearest = ((whitened[:, None] - arrays["whitened_means"]) ** 2).sum(axis=2).argmin(axis=1)
    assert np.mean(nearest == targets) > 0.99


def test_features_that_do_not_vary_are_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match="do not vary"):
        fit_feature_distance(np.ones((6, 3)), np.array([0, 1, 2] * 2))


def test_trained_arrays_are_those_the_runtime_reads() -> None:
    train, targets = _inside(200, 0)
    arrays = fit_trained(train, targets, _outside(40, 2))
    assert set(arrays) == set(SCORES.load("trained").arrays)
    assert all(array.dtype == np.float32 for array in arrays.values())


def test_outputs_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="features"):
        Outputs(np.zeros((3, 2)), np.zeros((2, 4)))
