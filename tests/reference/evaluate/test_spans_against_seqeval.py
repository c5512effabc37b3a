"""Exact span scores are seqeval's, on tags drawn at random."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from edgedistill.evaluate.span_metrics import exact_counts, field_scores
from edgedistill.runtime.extraction.tagging import best_tags, spans_of, tag_names

FIELDS = ("city", "day", "count")
with warnings.catch_warnings():
    # Of its own making: invalid escapes, NumPy's old names.
    warnings.simplefilter("ignore")
    metrics = pytest.importorskip("seqeval.metrics")


@pytest.mark.parametrize("seed", range(20))
def test_precision_recall_and_f1_by_field_and_over_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = tag_names(FIELDS)

    def drawn(num: int) -> list[np.ndarray]:
        return [
            best_tags(rng.normal(size=(length, len(names))), np.ones(length, bool))
            for length in lengths[:num]
        ]

    lengths = rng.integers(1, 15, size=12)
    wanted, found = drawn(12), drawn(12)
    # A model that is often right, too.
    found = [w if rng.random() < 0.5 else f for w, f in zip(wanted, found, strict=True)]
    tags = [[[names[tag] for tag in row] for row in rows] for rows in (wanted, found)]
    spans = [
        [{(FIELDS[field], first, last + 1) for field, first, last in spans_of(row)} for row in rows]
        for rows in (found, wanted)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = metrics.classification_report(*tags, output_dict=True, zero_division=0)
        overall = [getattr(metrics, f"{name}_score")(*tags, zero_division=0)
                   for name in ("precision", "recall", "f1")]  # fmt: skip
    counts = exact_counts(*spans)
    assert [counts.precision, counts.recall, counts.f1] == pytest.approx(overall)
    for score in field_scores(*spans, FIELDS):
        if score.name not in report:
            assert score.num_expected == 0
            continue
        expected = report[score.name]
        assert score.num_expected == expected["support"]
        assert [score.precision, score.recall, score.f1] == pytest.approx(
            [expected["precision"], expected["recall"], expected["f1-score"]]
        )
