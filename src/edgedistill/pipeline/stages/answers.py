"""Stage `mixture`: what students are to answer, where there are several teachers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedistill.core.errors import ModelError
from edgedistill.core.files import read_json, write_json
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.any_ground import Answers
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.further import Heard, hear_all
from edgedistill.pipeline.stages.transfer import TransferSet

ROOMS = ("train/distill/mixture", "pipeline/stages/answers")


def prepare_mixture(context: Context, data: PreparedData, transfer: TransferSet) -> Answers | None:
    """The teacher's answers mixed with those of further teachers; None where there are none.

    Raises:
        SpecError: a further teacher does not know a label, and no mapping says so.
        ModelError: no teacher is left whose answers weigh anything.
    """
    if not context.spec.teachers:
        return None
    heard, failures = hear_all(context, data, transfer)
    settings = context.spec.distillation.mixture
    inputs = {
        "transfer": transfer.stage.fingerprint,
        "answers": [each.stage.fingerprint for each in heard],
        "groups": [[list(classes) for classes in each.groups] for each in heard],
        "weights": [settings.first_weight, *(each.weight for each in heard)],
        "weighting": settings.weighting,
    }

    def compute(folder: Path) -> None:
        targets = data.dataset.targets("validation")
        write_json(folder / "told.json", _mix(context, transfer, heard, targets, folder))

    stage = context.store.stage("mixture", inputs, compute, rooms=ROOMS)
    told = read_json(stage.folder / "told.json")
    return Answers(
        stage.fingerprint,
        np.load(stage.folder / "logits.npy", mmap_mode="r"),
        np.load(stage.folder / "validation.npy"),
        (*failures, _note(settings.weighting, heard, told)),
    )


def _mix(
    context: Context,
    transfer: TransferSet,
    heard: Sequence[Heard],
    targets: np.ndarray,
    folder: Path,
) -> dict[str, list[float]]:
    """Write both mixtures; returns each teacher's validation accuracy on the labels that it knows,
    the mixture's last, and each one's mean share."""
    from edgedistill.train.distill import mixture

    validation, _ = transfer.outputs("validation")
    settings = context.spec.distillation.mixture
    weights = [settings.first_weight, *(each.weight for each in heard)]
    told = _told(validation, [(each.validation, each.groups) for each in heard])
    if settings.weighting == "quality":
        quality = [mixture.above_chance(each, targets) for each in told]
        weights = [weight * above for weight, above in zip(weights, quality, strict=True)]
    if not sum(weights):
        raise ModelError(
            "no teacher is left whose answers weigh anything",
            where="teachers",
            fix="give a weight above 0 to a teacher that can be loaded and is better than chance",
        )
    by_text = settings.weighting == "confidence"
    answers = [mixture.completed(each, told[0]) for each in told]
    share = mixture.shares(weights, answers, by_text=by_text)
    together = mixture.mixed(validation, answers, share)
    np.save(folder / "validation.npy", together.astype(np.float32))
    accuracies = [mixture.accuracy(each, targets) for each in (*told, together)]

    told = _told(transfer.logits, [(each.logits, each.groups) for each in heard])
    answers = [mixture.completed(each, told[0]) for each in told]
    share = mixture.shares(weights, answers, by_text=by_text)
    together = mixture.mixed(transfer.logits, answers, share)
    np.save(folder / "logits.npy", np.clip(together, -6e4, 6e4).astype(np.float16))
    return {"accuracies": accuracies, "shares": share.mean(1).tolist()}


def _told(
    first: np.ndarray, others: Sequence[tuple[np.ndarray, Sequence[Sequence[int]]]]
) -> list[np.ndarray]:
    """What every teacher says of the labels that it knows, the first teacher first."""
    from edgedistill.train.distill import mixture

    alone = [[label] for label in range(first.shape[1])]
    return [mixture.told_of_labels(logits, groups) for logits, groups in [(first, alone), *others]]


def _note(weighting: str, heard: Sequence[Heard], told: dict[str, list[float]]) -> str:
    """Who said what, for the report."""
    *accuracies, together = told["accuracies"]
    names = ["teacher", *(each.source for each in heard)]
    each_told = "; ".join(
        f"{name} {share:.0%} (validation accuracy {accuracy:.1%})"
        for name, share, accuracy in zip(names, told["shares"], accuracies, strict=True)
    )
    return (
        f"The student learns a mixture of the answers of {len(names)} teachers, {weighting} "
        f"weights, mean shares: {each_told}; the mixture's validation accuracy is {together:.1%}."
    )
