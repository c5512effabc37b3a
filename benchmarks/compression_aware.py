"""Training for four bits against rounding afterwards, on students that four bits cost answers.

python benchmarks/compression_aware.py            writes docs/results/compression-aware.*
python benchmarks/compression_aware.py --quick    a cut, two students; writes nothing

The model is that of benchmarks/compression.py, where its --work is here already.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from classification_tasks import DATA, cut, task_values, write_values
from compression import LISTENER, fine_tuned
from compression_page import Row, accuracies, points
from compression_tasks import FEWER_TEXTS
from edgedistill.compress.sequence import apply_passes
from edgedistill.core.file_compression import AwareSpec
from edgedistill.core.task_file import load_task
from edgedistill.pipeline.classification import prepare_ground
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.search import candidates_of
from edgedistill.pipeline.stages.artefact import FULL, MODEL, calibration_inputs, make_artefact
from edgedistill.pipeline.stages.ground import Ground
from edgedistill.pipeline.stages.student import train_student
from edgedistill.pipeline.store import Store
from edgedistill.runtime.session import Session
from edgedistill.runtime.text_model import TextModel
from edgedistill.runtime.tokenizer import Tokenizer
from kept_seeds import revision
from results import Result, tell, write_results

COMMAND = "python benchmarks/compression_aware.py"
NAME = "compression-aware"
#: So narrow that four bits cost it answers, which wider networks here lose none to.
STUDENT = {
    "family": "static", "options": {"token_size": 128, "hidden_size": 32, "num_buckets": 2048},
}  # fmt: skip
ROUNDED, COMPENSATED = ("int8_tables", "group_int4"), ("int8_tables", "gptq_int4")
#: What a student is taught with, and whether that is the model's answers.
TAUGHT = {"labels alone": False, "the model's answers": True}
#: The students of which decision record 30 measured on validation that they lose most: the bar's.
JUDGED = "labels alone"
#: Share of the accuracy lost to rounding that training for it is to bring back.
RECOVERED = 0.5
FORMS = WHOLE, PLAIN, GPTQ, AWARE = "full precision", "rounded", "GPTQ", "trained for four bits"


@dataclass(frozen=True)
class Student:
    """What a student's files answer to the test rows, int [rows], by form."""

    seed: int
    taught: str
    answers: Mapping[str, np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a cut of the data; writes nothing")
    parser.add_argument("--students", type=int, default=8, help="seeds of students, of each kind")
    parser.add_argument("--work", type=Path, default=Path("runs/compression"))
    arguments = parser.parse_args()
    quick, work = arguments.quick, arguments.work
    numbers = list(range(2 if quick else arguments.students))
    ground = ground_of(work, quick=quick)
    students = [
        student_of(ground, seed, taught, work) for taught in TAUGHT for seed in numbers
    ]  # fmt: skip
    targets = ground.data.dataset.targets("test")
    command = f"{COMMAND} --students {len(numbers)}"
    results = [
        Result(claim, *values, unit, bar, bool(holds), numbers, command, machine())
        for taught in TAUGHT
        for claim, values, unit, bar, holds in rows_of(
            taught, [each for each in students if each.taught == taught], targets
        )
    ]
    page = notes(students, targets)
    if not quick:
        write_results(NAME, "Training for four bits", results, page)
    print("\n".join(page))
    tell(results)
    return 0


def ground_of(work: Path, *, quick: bool) -> Ground:
    """What all students grow on: the fine-tuned model of seed 0, and the texts it answered."""
    data = cut(work) if quick else DATA
    model, _ = fine_tuned(0, data, work, quick=quick)
    values = task_values("quality", 0, data, quick=quick)
    values |= {
        "name": "clinc150-aware",
        "student": STUDENT,
        "teacher": {"source": f"folder:{model.resolve()}", "num_epochs": 0},
        "compress": {"artefact": list(ROUNDED), "quantisation_aware": {}},
    }
    if not quick:
        values["distillation"] = FEWER_TEXTS
    task = write_values(values, work)
    store = Store(work / "store", LISTENER)
    return prepare_ground(Context(load_task(task), task.parent, work, store, LISTENER, math.inf))


def student_of(ground: Ground, seed: int, taught: str, work: Path) -> Student:
    """A student of a seed, in full precision and in four bits by every way."""
    spec = ground.context.spec.model_copy(update={"seed": seed})
    ground = replace(ground, context=replace(ground.context, spec=spec))
    (candidate,) = candidates_of(spec)
    student = train_student(ground, candidate, distilled=TAUGHT[taught])
    folder = make_artefact(ground, student).stage.folder
    encoder, num_labelled = ground.encoder, ground.transfer.num_labelled
    calibration = calibration_inputs(ground.transfer.texts, num_labelled, encoder.pad_id)
    files = {WHOLE: folder / FULL, AWARE: folder / MODEL}
    for name, passes in ((PLAIN, ROUNDED), (GPTQ, COMPENSATED)):
        place = work / "files" / "aware" / student.stage.fingerprint / passes[-1]
        place.mkdir(parents=True, exist_ok=True)
        files[name] = apply_passes(
            passes, folder / FULL, place, calibration, asked_at=passes
        ).file  # fmt: skip
    texts = ground.data.dataset.texts("test")
    answers = {}
    for name in FORMS:
        reading = TextModel(
            Session(files[name].read_bytes()), Tokenizer(encoder.packed), batching="single",
            pad_id=encoder.pad_id, max_tokens=encoder.max_tokens,
        )  # fmt: skip
        answers[name] = reading.raw(texts)[0].argmax(1)
    return Student(seed, taught, answers)


def rows_of(taught: str, students: Sequence[Student], targets: np.ndarray) -> list[Row]:
    """The claims: means over students, with 95 % intervals over test rows."""
    right = [{name: given == targets for name, given in s.answers.items()} for s in students]
    kept = [{name: given == s.answers[WHOLE] for name, given in s.answers.items()}
            for s in students]  # fmt: skip
    scores, same = accuracies(right, *FORMS), accuracies(kept, *FORMS)
    index = {name: at for at, name in enumerate(FORMS)}
    lost = points(scores, index[WHOLE], index[PLAIN])
    back = points(scores, index[AWARE], index[PLAIN])
    is_bar = taught == JUDGED
    # Of a loss that may be none, nothing can be brought back.
    enough = lost[1] > 0 and back[0] >= RECOVERED * lost[0]
    bar = f"≥ {RECOVERED:g} of a loss whose interval is above 0" if is_bar else "shown"
    of = f"taught with {taught}"
    return [
        (f"{of}: accuracy lost to plain rounding", lost, "points", "shown", True),
        (f"{of}: accuracy that training for four bits brings back", back, "points", bar,
         enough or not is_bar),
        (f"{of}: accuracy that GPTQ brings back", points(scores, index[GPTQ], index[PLAIN]),
         "points", "shown", True),
        (f"{of}: training for four bits above GPTQ", points(scores, index[AWARE], index[GPTQ]),
         "points", "shown", True),
        *((f"{of}, {name}: answers other than in full precision",
           points(same, index[WHOLE], index[name]), "%", "shown", True)
          for name in (PLAIN, GPTQ, AWARE)),
    ]  # fmt: skip


def notes(students: Sequence[Student], targets: np.ndarray) -> list[str]:
    """The page below its claims."""
    size, hidden = STUDENT["options"]["token_size"], STUDENT["options"]["hidden_size"]
    lines = [
        f"Static students of CLINC150, {size} and {hidden} wide, so narrow that four bits cost "
        f"them answers (chosen on validation, decision record 30); {len(students) // 2} of a kind, "
        "each with a seed of its own, one fine-tuned MiniLM and one transfer set. Those taught "
        "with labels alone are what a user brings with a network of their own; the bar is theirs. "
        f"Trained for four bits: {AwareSpec().num_epochs} epochs in which the network, weights "
        "rounded as its file holds them, learns its own answers in full precision "
        "(`quantisation_aware` at its defaults). Rounded and GPTQ: of the file alone. Tables have "
        "eight bits in all three. Each "
        "file answers the test split once, in ONNX Runtime. Intervals: 95 %, bootstrap over test "
        f"rows, the same for all. Revision {revision()}.",
        "",
        "| taught with | seed | " + " | ".join(FORMS) + " |",
        "| --- | --- |" + " --- |" * len(FORMS),
    ]
    for each in students:
        right = [f"{np.mean(each.answers[name] == targets):.4f}" for name in FORMS]
        lines.append(f"| {each.taught} | {each.seed} | " + " | ".join(right) + " |")
    for taught in TAUGHT:
        mine = [each for each in students if each.taught == taught]
        means = [np.mean([each.answers[name] == targets for each in mine]) for name in FORMS]
        lines.append(f"| {taught} | mean | " + " | ".join(f"{each:.4f}" for each in means) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
