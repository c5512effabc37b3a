"""A MiniLM fine-tuned on CLINC150, compressed without a smaller student, against full precision.

OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/compression.py    writes docs/results/compression.*
python benchmarks/compression.py --quick                           a cut; writes nothing
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classification_tasks import DATA, cut
from classification_tasks import write_task as write_quality
from compression_files import PALETTES, computed_bytes, make_files, scores_of
from compression_page import notes, rows_of
from compression_seed import (
    FILE,
    NAME,
    PLAIN,
    ROUNDED_PLAIN,
    WHOLE,
    FileRow,
    Seed,
    load,
    measured,
    save,
)
from compression_tasks import (
    FAST,
    INT4,
    PRUNED,
    RETENTION,
    ROUNDED,
    write_task,
)
from edgedistill.cli.progress import PlainLines
from edgedistill.compress.sequence import apply_passes
from edgedistill.core.files import read_json
from edgedistill.core.task_file import load_task
from edgedistill.models.teachers.sources import TOKENIZER
from edgedistill.pipeline.compression import compress_model
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.run import RunResult
from edgedistill.pipeline.stages import teacher_file
from edgedistill.pipeline.stages.artefact import FULL, calibration_inputs
from edgedistill.pipeline.stages.dataset import PreparedData, prepare_data
from edgedistill.pipeline.store import Store
from edgedistill.runtime.session import Session
from edgedistill.runtime.text_model import TextModel
from edgedistill.runtime.tokenizer import Tokenizer
from edgedistill.tasks.classification import TextEncoder
from kept_seeds import pooled, revision
from results import Result, tell, write_results
from strategies_scoring import classifier_folder

COMMAND = "python benchmarks/compression.py"
LISTENER = PlainLines(sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a cut of the data; writes nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/compression"))
    parser.add_argument(
        "--pool", action="store_true", help="a page of the seeds that were measured before, too"
    )
    arguments = parser.parse_args()
    quick, work = arguments.quick, arguments.work
    numbers = [0] if quick else arguments.seeds
    seeds: Sequence[Seed] = [measure(seed, work, quick=quick) for seed in numbers]
    if not quick:
        seeds = pooled(NAME, seeds, save, load, pool=arguments.pool)
    numbers = [each.seed for each in seeds]
    command = f"{COMMAND} --seeds {' '.join(map(str, numbers))}"
    results = [
        Result(claim, *values, unit, bar, bool(holds), numbers, command, machine())
        for claim, values, unit, bar, holds in rows_of(seeds)
    ]
    page = notes(seeds)
    if not quick:
        write_results(NAME, "Compression without a smaller student", results, page)
    print("\n".join(page))
    tell(results)
    return 0


def measure(seed: int, work: Path, *, quick: bool) -> Seed:
    """A fine-tuned model of a seed, compressed in every way."""
    data = cut(work) if quick else DATA
    model, prepared = fine_tuned(seed, data, work, quick=quick)
    runs = {name: compressed(name, seed, model, data, work, quick=quick) for name in RETENTION}
    full = stage_folder(runs[PRUNED], "teacher-file") / teacher_file.FILE
    spec = load_task(work / f"clinc150-{PRUNED}-{seed}.yaml")
    encoder = TextEncoder(model / TOKENIZER, spec.input.max_tokens)

    def reading(file: Path) -> TextModel:
        return TextModel(
            Session(file.read_bytes()), Tokenizer(encoder.packed), batching="single",
            pad_id=encoder.pad_id, max_tokens=spec.input.max_tokens,
        )  # fmt: skip

    texts, train = prepared.dataset.texts("test"), prepared.dataset.texts("train")
    calibration = calibration_inputs(encoder.encode(train), len(train), encoder.pad_id)
    folder = work / "files" / str(seed)
    (folder / "pruned").mkdir(parents=True, exist_ok=True)
    files = make_files(full, folder / "whole", calibration)
    artefact = stage_folder(runs[ROUNDED], "artefact")
    plain = apply_passes(INT4, artefact / FULL, folder / "pruned", calibration, asked_at=INT4)
    scores = scores_of(full, files, texts, reading)
    answers = {
        **{name: _answers(run) for name, run in runs.items()},
        WHOLE: _answers(runs[FAST], "teacher"),
        PLAIN: reading(artefact / FULL).raw(texts)[0].argmax(1),
        ROUNDED_PLAIN: reading(plain.file).raw(texts)[0].argmax(1),
        **{FILE + score.name: score.answers for score in scores},
    }
    targets = prepared.dataset.targets("test")
    return Seed(
        seed,
        revision(),
        {name: measured(run) for name, run in runs.items()},
        read_json(runs[PRUNED].folder / "report.json")["removal"],
        [FileRow(score.name, score.size_bytes, score.speed) for score in scores],
        full.stat().st_size,
        {name: computed_bytes(full, num) for name, num in PALETTES.items()},
        {name: given == targets for name, given in answers.items()},
    )


def _answers(run: RunResult, model: str = "shipped") -> np.ndarray:
    """What a run's bundle, or its teacher, said of the test rows; int [rows]."""
    with np.load(run.answers) as archive:
        return np.asarray(archive[model])


def fine_tuned(seed: int, data: Path, work: Path, *, quick: bool) -> tuple[Path, PreparedData]:
    """A folder of the classifier that a user would bring, and the task's rows."""
    task = write_quality("quality", seed, data, work, quick=quick)
    store = Store(work / "store", LISTENER)
    context = Context(load_task(task), task.parent, work, store, LISTENER, math.inf)
    return classifier_folder(context), prepare_data(context)


def compressed(
    name: str, seed: int, model: Path, data: Path, work: Path, *, quick: bool
) -> RunResult:
    """What `edgedistill compress` makes of it."""
    task = write_task(name, seed, data, work, quick=quick)
    return compress_model(str(model), task, runs_dir=work, listener=LISTENER)


def stage_folder(run: RunResult, name: str) -> Path:
    """Where a stage of a run left its files."""
    (folder,) = (s.folder for s in run.stages if s.name.startswith(name))
    return folder


if __name__ == "__main__":
    sys.exit(main())
