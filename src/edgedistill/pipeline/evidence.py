"""What the verdict rests on: the outputs of teacher, controls and bundle on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from edgedistill.core.artefacts import Dataset
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.task import TaskSpec
from edgedistill.evaluate.guard_arrays import Outputs
from edgedistill.evaluate.guard_fit import FittedGuard, GuardRows, fit_guard
from edgedistill.pipeline.stages.artefact import Artefact, single_outputs
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.student import TrainedStudent, load_student
from edgedistill.pipeline.stages.teacher import Teacher
from edgedistill.pipeline.stages.variants import Variant
from edgedistill.runtime.guard.catalogue import SCORES
from edgedistill.runtime.measuring import alternate_ms
from edgedistill.runtime.networks import Network, load_network
from edgedistill.tasks.classification import predicted

#: Training rows that a guard score is fitted on: enough for class means, read in seconds.
MAX_FIT_ROWS = 6000
#: Validation texts that the cost of a guard score is timed on.
NUM_TIMED = 200


@dataclass(frozen=True)
class Control:
    """A model to compare with: its name, its role in the report, its test answers."""

    name: str
    role: str
    answers: np.ndarray


def calibrated_guard(ground: Ground, artefact: Artefact) -> FittedGuard:
    """The guard fitted to the outputs of the very file that ships."""
    context = ground.context
    session = load_network(artefact.model.read_bytes(), threads=context.spec.requirements.threads)
    dataset, encoder = ground.data.dataset, ground.teacher.encoder

    def outputs(texts: list[str]) -> Outputs:
        return Outputs(*single_outputs(session, encoder.encode(texts)))

    rng = np.random.default_rng(context.spec.seed)
    num = min(MAX_FIT_ROWS, len(dataset.train))
    rows = np.sort(rng.permutation(len(dataset.train))[:num])
    texts = dataset.texts("train")
    outside = {
        f"out_of_bounds_{name}": outputs([example.text for example in examples])
        for name, examples in dataset.out_of_bounds.items()
        if name in ("train", "validation") and examples
    }
    given = GuardRows(
        train=outputs([texts[row] for row in rows]),
        train_targets=dataset.targets("train")[rows],
        validation=outputs(dataset.texts("validation")),
        validation_targets=dataset.targets("validation"),
        **outside,
    )
    encoded = encoder.encode(dataset.texts("validation")[:NUM_TIMED])
    ids = [encoded.ids[start:end] for start, end in pairwise(encoded.starts)]
    return affordable_guard(given, context.spec, artefact.chosen, session, ids)


def affordable_guard(
    given: GuardRows,
    spec: TaskSpec | ExtractionSpec,
    variant: Variant,
    session: Network,
    ids: Sequence[np.ndarray],
    *,
    kinds: Sequence[str] = tuple(SCORES),
) -> FittedGuard:
    """The guard that fits these rows best, within the size and latency that the task asks for.

    Args:
        variant: the file that ships, with its bytes and its p95.
        session: that file, as it will run.
        ids: token ids of the first validation texts, to time a score with.
        kinds: names in the catalogue of scores to consider.
    """
    required, seed = spec.requirements, spec.seed
    rate = spec.boundary.false_abstention_rate
    size_mb, limit = required.size_mb, required.latency_p95_ms
    room = None if size_mb is None else max(0, int(size_mb * 1e6) - variant.size_bytes)
    fitted = fit_guard(given, rate, kinds=kinds, most_bytes=room, seed=seed)
    cost_ms = _cost_ms(fitted, given.validation, session, ids)
    if limit is None or variant.p95_ms + cost_ms <= limit:
        return fitted
    light = [kind for kind in kinds if not SCORES.load(kind).arrays]
    if fitted.guard.kind in light:
        return fitted
    lighter = fit_guard(given, rate, kinds=light, seed=seed)
    declined = f"{fitted.guard.kind} would add {cost_ms:.3f} ms, over the latency asked for"
    return replace(lighter, reason=f"{lighter.reason}; {declined}")


def _cost_ms(
    fitted: FittedGuard, rows: Outputs, session: Network, ids: Sequence[np.ndarray]
) -> float:
    """What scoring adds to the 95th percentile of one text, in milliseconds.

    Timed after a run of the network each time, as in use: by itself a score would find its
    matrices in the cache, and look cheaper than it is.
    """

    def network(row: int) -> None:
        session.run(texts[row], np.ones_like(texts[row]))

    def with_score(row: int) -> None:
        network(row)
        fitted.guard.scores(rows.logits[row : row + 1], rows.features[row : row + 1])

    texts = [one[None].astype(np.int64) for one in ids]
    alone, scored = alternate_ms([network, with_score], range(len(texts)), rounds=4)
    return float(np.percentile(scored, 95) - np.percentile(alone, 95))


def control_answers(ground: Ground, control: TrainedStudent, name: str, role: str) -> Control:
    """The control's test answers in full precision, the form that flatters it most."""
    model = load_student(ground, control)
    logits = model_logits(model, ground.data.dataset.texts("test"), ground.teacher)
    return Control(name, role, predicted(logits))


def golden_set(dataset: Dataset, num: int = 500) -> tuple[list[str], np.ndarray]:
    """Validation rows, spread over the classes, that go through every hop of the ledger."""
    from edgedistill.pipeline.packaging import golden_rows

    targets = dataset.targets("validation")
    rows = golden_rows(targets, num)
    texts = dataset.texts("validation")
    return [texts[row] for row in rows], targets[rows]


def model_logits(model: Any, texts: list[str], teacher: Teacher) -> np.ndarray:
    """Logits of a PyTorch module on texts, float32 [n, classes]."""
    from edgedistill.models.inference import model_outputs

    encoded = teacher.encoder.encode(texts)
    return model_outputs(model, encoded, pad_id=teacher.encoder.pad_id)[0]


def file_logits(model: bytes, texts: list[str], teacher: Teacher) -> np.ndarray:
    """Logits of an ONNX file on texts, one at a time, float32 [n, classes]."""
    return single_outputs(load_network(model, threads=1), teacher.encoder.encode(texts))[0]
