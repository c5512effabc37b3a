"""What the bundle abstains from: texts out of bounds, and fields it is too unsure of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgedistill.evaluate.calibration import conformal_threshold, fit_temperature
from edgedistill.evaluate.guard_arrays import Outputs
from edgedistill.evaluate.guard_fit import FittedGuard, GuardRows
from edgedistill.pipeline.evidence import MAX_FIT_ROWS, NUM_TIMED, affordable_guard
from edgedistill.pipeline.extraction.artefact import Artefact
from edgedistill.pipeline.extraction.outputs import GoldTexts, TextLogits, said_by_file
from edgedistill.pipeline.extraction.student import Ground
from edgedistill.runtime.extraction.labels import value_columns
from edgedistill.runtime.extraction.reading import labelled, read_tags
from edgedistill.runtime.guard.catalogue import SCORES
from edgedistill.runtime.networks import load_network


@dataclass(frozen=True)
class FittedBoundary:
    """The guard of whole texts, its temperature set on tokens, the least confidence of a field, and
    the temperature of each label."""

    guard: FittedGuard
    least_confidence: float
    label_temperatures: tuple[float, ...] = ()


def fit(ground: Ground, artefact: Artefact) -> FittedBoundary:
    """Fit both to the outputs of the very file that ships, on training and validation texts."""
    spec, rows = ground.context.spec, ground.data.rows
    session = load_network(artefact.model.read_bytes(), threads=spec.requirements.threads)
    encoder = ground.teacher.encoder

    def outputs(texts: list[str]) -> Outputs:
        grids = [encoder.grid(text) for text in texts if encoder.fits(text)]
        return said_by_file(session, grids)[1]

    gold = GoldTexts(rows.validation, ground.teacher)
    said, validation = said_by_file(session, gold.grids)
    train = rows.texts("train")
    rng = np.random.default_rng(spec.seed)
    chosen = np.sort(rng.permutation(len(train))[:MAX_FIT_ROWS])
    outside = {
        f"out_of_bounds_{split}": outputs(list(rows.outside[split]))
        for split in ("train", "validation")
        if any(encoder.fits(text) for text in rows.outside.get(split, ()))
    }
    inside = outputs([train[row] for row in chosen])
    # Texts have no classes here: all of them lie around one mean.
    given = GuardRows(
        train=inside,
        train_targets=np.zeros(len(inside), np.int64),
        validation=validation,
        validation_targets=np.zeros(len(validation), np.int64),
        **outside,
    )
    # Of one class, `max_probability` of a profile would be no probability of anything.
    kinds = [kind for kind in SCORES if kind != "max_probability"]
    ids = [grid.ids for grid in gold.grids[:NUM_TIMED]]
    fitted = affordable_guard(given, spec, artefact.chosen, session, ids, kinds=kinds)
    temperature = fit_temperature(np.concatenate(list(said.tags)), gold.tags)
    guard = replace(fitted.guard, temperature=temperature)
    least = _least_confidence(gold, said.tags, temperature, spec.boundary.field_abstention_rate)
    temperatures = tuple(
        fit_temperature(said.labels[:, columns], gold.labels[:, place])
        for place, columns in enumerate(value_columns(encoder.labels))
    )
    return FittedBoundary(replace(fitted, guard=guard), least, temperatures)


def _least_confidence(
    gold: GoldTexts, logits: TextLogits, temperature: float, rate: float | None
) -> float:
    """The confidence below which at most `rate` of the right spans lie (split conformal); 0 where
    nothing may be withheld, or too few right spans stand behind it."""
    names, whole = gold.teacher.encoder.fields, gold.teacher.whole_words
    doubts = []
    for grid, rows, right in zip(gold.grids, logits, gold.spans, strict=True):
        reading = read_tags(grid, rows, whole_words=whole, temperature=temperature)
        doubts += [1 - span.confidence for span in reading.spans
                   if labelled([span], names) <= right]  # fmt: skip
    if rate is None:
        return 0.0
    # A doubt is at most 1: a threshold that is not finite leaves nothing to withhold.
    return max(0.0, 1.0 - min(1.0, conformal_threshold(doubts, rate).threshold))
