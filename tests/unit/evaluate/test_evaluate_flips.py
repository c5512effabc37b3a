import pytest

from edgedistill.evaluate.flips import Flip, find_flips

LABELS = ("refund", "parcel", "login", "unused")
TEXTS = ["t0", "t1", "t2", "t3", "t4", "t5"]


def test_flips_are_what_the_teacher_had_right_and_the_student_lost() -> None:
    report = find_flips(
        [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], [1, 0, 0, 1, 0, 1], labels=LABELS, texts=TEXTS
    )
    assert (report.num_flips, report.num_gains) == (2, 1)
    assert report.flip_rate == pytest.approx(2 / 6)
    assert [c.label for c in report.classes] == ["login", "parcel", "refund"]
    refund = report.classes[2]
    assert (refund.num_rows, refund.num_flips, refund.num_gains) == (3, 1, 1)
    assert refund.teacher_recall == refund.student_recall == pytest.approx(2 / 3)
    assert refund.examples == (Flip("t0", "refund", "parcel"),)
    assert report.classes[0].examples == ()


def test_examples_are_capped_but_flips_are_not() -> None:
    report = find_flips([0] * 6, [0] * 6, [1] * 6, labels=LABELS, texts=TEXTS, num_examples=2)
    assert report.classes[0].num_flips == 6
    assert len(report.classes[0].examples) == 2


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        find_flips([0], [0], [0], labels=LABELS, texts=TEXTS)
