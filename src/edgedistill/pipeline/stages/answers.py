"""Stage `mixture`: what students are to answer, where there are several teachers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedistill.core.errors import ModelError
from edgedistill.core.files import read_json, write_json
from edgedistill.pipeline.stages.any_ground import Answers, AnyGround
from edgedistill.pipeline.stages.further import Heard

ROOMS = ("train/distill/mixture", "pipeline/stages/answers")
#: Rows that are mixed at a time.
PART = 65_536


def prepare_mixture(
    ground: AnyGround, heard: Sequence[Heard], failures: Sequence[str], targets: np.ndarray
) -> Answers:
    """The first teacher's answers mixed with those of further teachers.

    Args:
        heard: what the further teachers said. failures: why others were left out.
        targets: int64, the labels of the validation rows that count.

    Raises:
        ModelError: no teacher is left whose answers weigh anything.
    """
    context, settings = ground.context, ground.settings.mixture
    inputs = {
        "transfer": ground.stage.fingerprint,
        "answers": [each.stage.fingerprint for each in heard],
        "groups": [[list(classes) for classes in each.groups] for each in heard],
        "weights": [settings.first_weight, *(each.weight for each in heard)],
        "weighting": settings.weighting,
    }

    def compute(folder: Path) -> None:
        write_json(folder / "told.json", _mix(ground, heard, targets, folder))

    stage = context.store.stage("mixture", inputs, compute, rooms=ROOMS)
    told = read_json(stage.folder / "told.json")
    return Answers(
        stage.fingerprint,
        np.load(stage.folder / "logits.npy", mmap_mode="r"),
        np.load(stage.folder / "validation.npy"),
        (*failures, _note(settings.weighting, heard, told)),
    )


def _mix(
    ground: AnyGround, heard: Sequence[Heard], targets: np.ndarray, folder: Path
) -> dict[str, list[float]]:
    """Write both mixtures; returns each teacher's validation accuracy on the labels that it knows,
    the mixture's last, and each one's mean share."""
    from edgedistill.train.distill import mixture

    first, rows = ground.teachers_answers(), ground.validation[1]
    settings = ground.settings.mixture
    weights = [settings.first_weight, *(each.weight for each in heard)]
    told = _told(first.validation, [(each.validation, each.groups) for each in heard])
    if settings.weighting == "quality":
        quality = [mixture.above_chance(each[rows], targets) for each in told]
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
    together = mixture.mixed(first.validation, answers, share)
    np.save(folder / "validation.npy", together.astype(np.float32))
    accuracies = [mixture.accuracy(each[rows], targets) for each in (*told, together)]
    shares = _mix_all(first.logits, heard, weights, folder / "logits.npy", by_text=by_text)
    return {"accuracies": accuracies, "shares": shares.tolist()}


def _mix_all(
    first: np.ndarray,
    heard: Sequence[Heard],
    weights: Sequence[float],
    to: Path,
    *,
    by_text: bool,
) -> np.ndarray:
    """Write the mixture for the transfer set, float16, part by part; returns the mean shares."""
    from edgedistill.train.distill import mixture

    kept = np.lib.format.open_memmap(to, mode="w+", dtype=np.float16, shape=first.shape)
    shares = np.zeros(1 + len(heard))
    for start in range(0, len(first), PART):
        part = slice(start, start + PART)
        told = _told(first[part], [(each.logits[part], each.groups) for each in heard])
        answers = [mixture.completed(each, told[0]) for each in told]
        share = mixture.shares(weights, answers, by_text=by_text)
        kept[part] = np.clip(mixture.mixed(first[part], answers, share), -6e4, 6e4)
        shares += share.sum(1)
    kept.flush()
    return shares / len(first)


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
