"""The ledger of a tagger: the same texts through every hop, token by token."""

from __future__ import annotations

import numpy as np

from edgedistill.evaluate.fidelity import HopBars, Ledger
from edgedistill.pipeline.extraction.artefact import Artefact
from edgedistill.pipeline.extraction.outputs import (
    GoldTexts,
    TextLogits,
    file_outputs,
    module_logits,
)
from edgedistill.pipeline.extraction.student import Ground, Student
from edgedistill.pipeline.stages.artefact import LEAST_AGREEMENT, MOST_LOST_ACCURACY
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.session import Session

#: Validation texts that go through every hop.
NUM_GOLDEN = 200


def keep_ledger(
    ground: Ground, student: Student, artefact: Artefact, extractor: Extractor
) -> Ledger:
    """Carry validation texts through every hop; its rows are tokens, its answers their tags."""
    documents = ground.data.rows.validation
    rows = np.linspace(0, len(documents) - 1, min(NUM_GOLDEN, len(documents))).astype(int)
    gold = GoldTexts([documents[row] for row in rows], ground.teacher)
    # One tag of a small golden set must not break a hop.
    one = 1.0 / len(gold.tags)

    def of_file(content: bytes) -> TextLogits:
        return file_outputs(Session(content, threads=1), gold.grids)[0]

    hops = [
        ("teacher", module_logits(ground.teacher.load(), gold), None),
        ("student", module_logits(student.load(), gold), None),
        ("exported", of_file(artefact.full.read_bytes()),
         HopBars(agreement=1.0 - one, logit_difference=0.01)),
        ("compressed", of_file(artefact.model.read_bytes()),
         HopBars(agreement=min(LEAST_AGREEMENT, 1 - 2 * one) - one,
                 score_drop=MOST_LOST_ACCURACY + 2 * one)),
        ("run from the bundle", [extractor.raw(d.text)[1] for d in gold.documents],
         HopBars(agreement=1.0, logit_difference=1e-5)),
    ]  # fmt: skip
    ledger = Ledger(gold.tags)
    for name, logits, bars in hops:
        flat = np.concatenate(list(logits))
        ledger.record(name, gold.decoded(logits), logits=flat, bars=bars)
    return ledger
