"""The fidelity ledger of a run: teacher → student → exported → compressed → run from the bundle."""

from __future__ import annotations

from edgedistill.evaluate.fidelity import HopBars, Ledger
from edgedistill.pipeline.evidence import file_logits, golden_set, model_logits
from edgedistill.pipeline.stages.artefact import Artefact
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.student import load_student
from edgedistill.pipeline.stages.variants import LEAST_AGREEMENT, MOST_LOST_ACCURACY
from edgedistill.runtime.classification import Classifier
from edgedistill.tasks.classification import predicted


def keep_ledger(ground: Ground, artefact: Artefact, classifier: Classifier) -> Ledger:
    """Carry one golden set (validation rows) through every hop."""
    texts, targets = golden_set(ground.data.dataset)
    # One answer of a small golden set must not break a hop.
    one = 1.0 / len(texts)
    teacher = ground.teacher
    student = load_student(ground, artefact.student)
    hops = [
        ("teacher", model_logits(teacher.load(ground.data.dataset), texts, teacher), None),
        ("student", model_logits(student, texts, teacher), None),
        ("exported", file_logits(artefact.full.read_bytes(), texts, teacher),
         HopBars(agreement=1.0 - one, logit_difference=0.01)),
        ("compressed", file_logits(artefact.model.read_bytes(), texts, teacher),
         HopBars(agreement=min(LEAST_AGREEMENT, 1 - 2 * one) - one,
                 score_drop=MOST_LOST_ACCURACY + 2 * one)),
        ("run from the bundle", classifier.raw(texts)[0],
         HopBars(agreement=1.0, logit_difference=1e-5)),
    ]  # fmt: skip
    ledger = Ledger(targets)
    for name, logits, bars in hops:
        ledger.record(name, predicted(logits), logits=logits, bars=bars)
    return ledger
