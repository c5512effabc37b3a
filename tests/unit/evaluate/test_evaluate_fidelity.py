import json

import numpy as np
import pytest

from edgedistill.core.errors import VerificationFailed
from edgedistill.evaluate.fidelity import HopBars, Ledger

TARGETS = [0, 1, 2, 0]


def test_each_hop_is_compared_with_the_one_before_and_with_the_first() -> None:
    ledger = Ledger(TARGETS)
    first = ledger.record("teacher", TARGETS)
    assert first.agreement is None
    assert first.agreement_with_first is None
    assert first.score == 1.0
    ledger.record("student", [0, 1, 2, 1])
    hop = ledger.record("int8", [0, 1, 1, 1])
    assert (hop.agreement, hop.agreement_with_first, hop.score) == (0.75, 0.5, 0.5)
    assert [hop.name for hop in ledger.hops] == ["teacher", "student", "int8"]


def test_the_largest_logit_difference_is_reported_where_logits_compare() -> None:
    ledger, logits = Ledger(TARGETS), np.eye(4)
    ledger.record("a", TARGETS, logits=logits)
    changed = logits.copy()
    changed[2, 1] -= 0.25
    assert ledger.record("b", TARGETS, logits=changed).logit_difference == 0.25
    assert ledger.record("c", TARGETS, logits=np.ones((4, 2))).logit_difference is None
    assert ledger.record("d", TARGETS).logit_difference is None


def test_the_first_hop_that_breaks_is_named() -> None:
    ledger = Ledger(TARGETS)
    ledger.record("student", TARGETS)
    ledger.record("merged", TARGETS, bars=HopBars(agreement=1.0))
    assert ledger.broken() is None
    ledger.require_whole()
    ledger.record("int8", [0, 1, 2, 1], bars=HopBars(agreement=0.9, score_drop=0.1), note="static")
    ledger.record("bundle", [1, 1, 1, 1], bars=HopBars(agreement=0.9))
    hop = ledger.broken()
    assert hop is not None
    assert hop.name == "int8"
    assert hop.note == (
        "agreement 0.75, at least 0.9 required; accuracy lost 0.25, at most 0.1 required; static"
    )
    with pytest.raises(VerificationFailed, match="'int8'"):
        ledger.require_whole()


@pytest.mark.parametrize("num_rows", [3, 49, 252, 500])
def test_a_share_that_equals_its_bar_holds_whatever_the_rounding(num_rows: int) -> None:
    ledger = Ledger(np.zeros(num_rows, dtype=int))
    ledger.record("a", np.zeros(num_rows, dtype=int))
    one = 1 / num_rows
    answers = (np.arange(num_rows) == 0).astype(int)
    assert ledger.record("b", answers, bars=HopBars(agreement=1 - one, score_drop=one)).holds


def test_a_logit_bar_breaks_a_hop_whose_labels_agree() -> None:
    ledger = Ledger(TARGETS)
    ledger.record("a", TARGETS, logits=np.zeros((4, 3)))
    hop = ledger.record(
        "b", TARGETS, logits=np.full((4, 3), 0.5), bars=HopBars(logit_difference=0.1)
    )
    assert not hop.holds
    assert hop.agreement == 1.0


def test_logits_that_are_not_finite_break_a_hop_without_bars() -> None:
    ledger = Ledger(TARGETS)
    ledger.record("a", TARGETS, logits=np.zeros((4, 3)))
    hop = ledger.record("b", TARGETS, logits=np.full((4, 3), np.nan))
    assert not hop.holds
    assert hop.logit_difference is None
    json.dumps(ledger.as_json(), allow_nan=False)


def test_wrong_shapes_and_repeated_names_are_refused() -> None:
    ledger = Ledger(TARGETS)
    ledger.record("a", TARGETS)
    with pytest.raises(ValueError, match="recorded already"):
        ledger.record("a", TARGETS)
    with pytest.raises(ValueError, match="answers"):
        ledger.record("b", [0])
    with pytest.raises(ValueError, match="shape"):
        ledger.record("b", TARGETS, logits=np.zeros(4))
    with pytest.raises(ValueError, match="golden row"):
        Ledger([])
