"""What the bundle keeps of what its teacher learned first."""

from __future__ import annotations

from edgedistill.evaluate.intervals import retention_interval
from edgedistill.evaluate.report.forgetting import StepAbility
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.tuning import abilities_of
from edgedistill.runtime.classification import Classifier
from edgedistill.tasks.classification import predicted


def abilities_kept(ground: Ground, classifier: Classifier) -> tuple[StepAbility, ...]:
    """The accuracies of teacher and bundle on the validation rows of every step."""
    confidence = ground.context.spec.requirements.confidence
    found = []
    for ability in abilities_of(ground.teacher):
        right = predicted(classifier.logits(ability.texts)) == ability.targets
        found.append(
            StepAbility(
                data=ability.data,
                num_rows=len(right),
                before=float(ability.before.mean()),
                after=float(ability.after.mean()),
                bundle=float(right.mean()),
                kept=retention_interval(ability.before, right, confidence=confidence),
                num_left_out=ability.num_left_out,
            )
        )
    return tuple(found)
