import numpy as np
import pytest

from edgedistill.evaluate.metrics import (
    accuracy,
    auroc,
    calibration_bins,
    class_scores,
    confusion,
    expected_calibration_error,
    macro_f1,
    risk_coverage,
    roc_curve,
)


def test_accuracy_and_confusion_count_rows() -> None:
    targets, predictions = [0, 0, 1, 2], [0, 1, 1, 0]
    assert accuracy(targets, predictions) == 0.5
    assert confusion(targets, predictions, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("bad", [[3], [-1]])
def test_confusion_refuses_labels_outside_the_classes(bad: list[int]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        confusion([0], bad, 3)


def test_a_class_never_predicted_scores_zero_instead_of_dividing_by_zero() -> None:
    scores = class_scores([0, 1], [0, 0], 2)
    assert scores.precision.tolist() == [0.5, 0.0]
    assert scores.f1.tolist() == [pytest.approx(2 / 3), 0.0]


def test_macro_f1_leaves_out_classes_that_never_occur() -> None:
    assert macro_f1([0, 1], [0, 1], 5) == 1.0


@pytest.mark.parametrize("function", [accuracy, expected_calibration_error, risk_coverage, auroc])
def test_nothing_measured_is_an_error(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        function([], [])


def test_unequal_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="equally long"):
        accuracy([0, 1], [0])


def test_calibration_error_of_a_boaster_is_its_excess_confidence() -> None:
    confidences = np.full(10, 0.9)
    correct = np.arange(10) < 6
    assert expected_calibration_error(confidences, correct) == pytest.approx(0.3)
    assert expected_calibration_error(confidences, correct, equal_mass=True) == pytest.approx(0.3)


def test_bins_are_open_below_and_closed_above() -> None:
    bins = calibration_bins([0.1, 0.2, 0.200001, 1.0, 0.0], [True] * 5, num_bins=10)
    assert bins.num_rows.tolist() == [2, 1, 1, 0, 0, 0, 0, 0, 0, 1]


def test_equal_mass_bins_hold_equally_many_rows() -> None:
    confidences = np.random.default_rng(0).beta(8, 1, 600)
    bins = calibration_bins(confidences, confidences > 0.5, num_bins=6, equal_mass=True)
    assert bins.num_rows.tolist() == [100] * 6


def test_confidences_outside_zero_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        expected_calibration_error([1.2], [True])


def test_auroc_counts_ties_a_half() -> None:
    assert auroc([0.0, 1.0], [1.0, 2.0]) == (1 + 1 + 0.5 + 1) / 4
    assert auroc([1.0], [1.0]) == 0.5
    assert auroc([0.0], [-np.inf]) == 0.0


def test_auroc_refuses_nan() -> None:
    with pytest.raises(ValueError, match="nan"):
        auroc([0.0, np.nan], [1.0])


def test_roc_curve_runs_from_corner_to_corner() -> None:
    false_rate, true_rate = roc_curve([0.0, 1.0, 1.0], [1.0, 2.0])
    assert false_rate.tolist() == [0, 0, pytest.approx(2 / 3), 1]
    assert true_rate.tolist() == [0, 0.5, 1, 1]


def test_risk_falls_as_the_unsure_are_left_out() -> None:
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, True, True, False])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == [0, 0, 0, 0.25]
    assert curve.area == pytest.approx(0.0625)
    assert curve.coverage_at_risk(0.0) == 0.75
    assert curve.coverage_at_risk(0.25) == 1.0


def test_rows_of_equal_confidence_are_answered_together() -> None:
    curve = risk_coverage([0.5, 0.5], [True, False])
    assert curve.coverage.tolist() == [1.0]
    assert curve.risk.tolist() == [0.5]
    assert curve.coverage_at_risk(0.4) == 0.0
