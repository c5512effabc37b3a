import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.evaluate.calibration import conformal_threshold
from edgedistill.evaluate.intervals import clopper_pearson_interval, wilson_interval
from edgedistill.evaluate.metrics import auroc, calibration_bins, risk_coverage, roc_curve
from edgedistill.evaluate.report.markdown import escape_markdown
from edgedistill.evaluate.robustness import PERTURBATIONS, perturb

# The machine is shared: how long an example takes says nothing.
UNTIMED = settings(deadline=None)
SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)


@UNTIMED
@given(SCORES, SCORES)
def test_auroc_is_the_area_under_its_curve_and_mirrors(low: list[float], high: list[float]) -> None:
    x, y = roc_curve(low, high)
    assert math.isclose(auroc(low, high), np.trapezoid(y, x), abs_tol=1e-12)
    assert math.isclose(auroc(low, high) + auroc(high, low), 1.0)


@UNTIMED
@given(SCORES, st.floats(0.01, 0.99))
def test_conformal_threshold_never_refuses_more_of_its_rows_than_asked(
    scores: list[float], rate: float
) -> None:
    found = conformal_threshold(scores, rate)
    assert found.measured_rate <= rate
    assert math.isinf(found.threshold) == bool(found.reason)
    assert math.isinf(found.threshold) or min(scores) <= found.threshold <= max(scores)


@UNTIMED
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_interval_holds_its_rate_and_mirrors(count: tuple[int, int]) -> None:
    hits, rows = count
    for interval in (clopper_pearson_interval, wilson_interval):
        found, mirrored = interval(hits, rows), interval(rows - hits, rows)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert math.isclose(found.low, 1 - mirrored.high, abs_tol=1e-9)


@UNTIMED
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_every_row_is_in_one_bin_and_full_coverage_has_the_overall_risk(
    rows: list[tuple[float, bool]],
) -> None:
    confidences, correct = [row[0] for row in rows], [row[1] for row in rows]
    for equal_mass in (False, True):
        bins = calibration_bins(confidences, correct, equal_mass=equal_mass)
        assert bins.num_rows.sum() == len(rows)
        assert 0 <= bins.error <= 1
    curve = risk_coverage(confidences, correct)
    assert curve.coverage[-1] == 1.0
    assert math.isclose(curve.risk[-1], 1 - np.mean(correct), abs_tol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80))
def test_no_perturbation_fails_or_empties_a_text(text: str) -> None:
    for name in PERTURBATIONS:
        changed = perturb([text], name, seed=0)[0]
        assert bool(changed.strip()) or not text.strip()


@UNTIMED
@given(st.text(max_size=80))
def test_escaped_text_stays_on_its_line_and_in_its_cell(text: str) -> None:
    escaped = escape_markdown(text)
    assert len(escaped.splitlines()) <= 1
    bare = escaped.replace("\\\\", "")
    for sign in "|<`*_[":
        assert bare.count(sign) == bare.count(f"\\{sign}")
