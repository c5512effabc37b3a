"""The best front that `compress: auto` finds in twenty minutes, against recipes and Olive.

python benchmarks/compression_search.py            writes docs/results/compression-search.*
python benchmarks/compression_search.py --quick    a cut, a minute of each search; writes nothing

The model is that of benchmarks/compression.py, where its --work is here already. Olive is left out
where the extra `benchmarks` is not installed. What the process may use is what is used: on two
cores, neither OMP_NUM_THREADS nor taskset.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from classification_tasks import DATA, cut, task_values, write_values
from compression import LISTENER, fine_tuned, stage_folder
from compression_search_files import Found, Reading, answers, timed
from compression_search_olive import Finding, Rows, find_with_olive, is_installed
from compression_search_page import AUTO, OLIVE, RECIPE, Compared, notes, pictures, rows_of
from compression_tasks import FEWER_TEXTS
from edgedistill.compress.sequence import apply_passes
from edgedistill.core.compression import RECIPES
from edgedistill.core.files import read_json, write_text
from edgedistill.core.task_file import load_task
from edgedistill.models.teachers.sources import TOKENIZER
from edgedistill.pipeline.classification import prepare_ground
from edgedistill.pipeline.compression import compress_model, compressing
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.packaging import machine
from edgedistill.pipeline.run import RunResult
from edgedistill.pipeline.search import candidates_of, pareto_front
from edgedistill.pipeline.stages.artefact import FULL as FULL_PRECISION
from edgedistill.pipeline.stages.artefact import MODEL, calibration_inputs, make_artefact
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.stages.student import train_student
from edgedistill.pipeline.stages.teacher_file import FILE
from edgedistill.pipeline.stages.variants import Variant, read_variants
from edgedistill.pipeline.store import Store
from edgedistill.tasks.classification import TextEncoder
from results import FOLDER, Result, tell, write_results

COMMAND = "python benchmarks/compression_search.py"
NAME = "compression-search"
#: Of each way, and of those that short trainings may take; the rest is for what they choose.
MINUTES, SEARCH_MINUTES = 20.0, 8.0
QUICK_MINUTES, QUICK_SEARCH_MINUTES = 3.0, 1.0
#: Of a task's time a quarter is kept for the verdict, which is left out here; and what is trained
#: last may begin shortly before that.
VERDICT_MINUTES = 4.0
#: Short epochs, four of them: a trial is one, and three that go on fit into the time.
DISTILLATION = FEWER_TEXTS | {"num_epochs": 4}
#: What is asked for is less than any recipe keeps, so that a front is looked for, not one point.
RETAINED = 0.97
#: What a search is made of, beside the verdict on what it chose.
SEARCHING, TRAINING = ("data", "teacher", "transfer", "sensitivity"), ("student-", "artefact-")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a cut of the data; writes nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, default=Path("runs/compression"))
    arguments = parser.parse_args()
    quick, work = arguments.quick, arguments.work
    numbers = [0] if quick else arguments.seeds
    command = f"{COMMAND} --seeds {' '.join(map(str, numbers))}"
    if not is_installed():
        print("Olive is left out: it is not installed (pip install 'edgedistill[benchmarks]')")
    seeds = [compare(seed, work, quick=quick) for seed in numbers]
    num_cores = len(os.sched_getaffinity(0))
    on = f"{machine()}, {num_cores} core{'s' * (num_cores > 1)}"
    results = [
        Result(
            f"seed {each.seed}: {claim}" if len(seeds) > 1 else claim,
            *values, unit, bar, bool(holds), numbers, command, on,
        )
        for each in seeds
        for claim, values, unit, bar, holds in rows_of(each, QUICK_MINUTES if quick else MINUTES)
    ]  # fmt: skip
    page = notes(seeds, num_cores)
    drawn = pictures(seeds[0])
    if not quick:
        images = [f"![{alt}]({NAME}-{what}.svg)" for what, (_, alt) in drawn.items()]
        title = "A search of compression passes"
        write_results(NAME, title, results, [*images, "", *page])
    for what, (svg, _) in drawn.items():
        write_text((work if quick else FOLDER) / f"{NAME}-{what}.svg", svg)
    print("\n".join(page))
    tell(results)
    return 0


def compare(seed: int, work: Path, *, quick: bool) -> Compared:
    """What every way finds for one fine-tuned model, on the test."""
    data = cut(work) if quick else DATA
    model, prepared = fine_tuned(seed, data, work, quick=quick)
    auto, run = searched(seed, model, data, work, quick=quick)
    recipes = [trained(name, seed, model, data, work, quick=quick) for name in RECIPES]
    full = stage_folder(run, "teacher-file") / FILE
    encoder = TextEncoder(
        model / TOKENIZER, load_task(_task(seed, data, work, quick)).input.max_tokens
    )
    tokenizer = work / "files" / f"tokenizer-{seed}.json.gz"
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.write_bytes(encoder.packed)
    reading = Reading(tokenizer, encoder.pad_id, encoder.max_tokens)
    olive = Finding()
    if is_installed():
        olive = find_with_olive(
            full, work / "files" / f"olive-{seed}", olive_rows(prepared, encoder),
            read_json(model / "config.json"), reading,
            seconds=60 * (QUICK_MINUTES if quick else MINUTES), seed=seed,
        )  # fmt: skip
    calibration = calibration_inputs(
        encoder.encode(prepared.dataset.texts("train")), len(prepared.dataset.texts("train")),
        encoder.pad_id,
    )  # fmt: skip
    place = work / "files" / f"auto-{seed}"
    fronts = {
        AUTO: [found(each, calibration, place) for each in front_of(auto)],
        RECIPE: recipes, OLIVE: front_of(olive.files),
    }  # fmt: skip
    texts, targets = prepared.dataset.texts("test"), prepared.dataset.targets("test")
    # A file that two ways found is one: timed and scored once.
    files = list(dict.fromkeys([full, *(each.file for way in fronts.values() for each in way)]))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        right = list(pool.map(lambda file: answers(file, reading, texts) == targets, files))
    return Compared(
        seed,
        Found("whole model", full, full.stat().st_size + reading.size_bytes, math.nan, math.nan),
        fronts,
        {AUTO: len(auto), RECIPE: len(recipes), OLIVE: len(olive.files)},
        dict(zip(files, timed(files, reading, texts), strict=True)),
        dict(zip(files, right, strict=True)),
        search_minutes(run),
        olive,
    )


@dataclass(frozen=True)
class Measured:
    """A file that `auto` measured, and the stage in whose `folder` it did; only the one that it
    kept is still there."""

    name: str
    folder: Path
    variant: Variant

    @property
    def accuracy(self) -> float:
        """On validation, as are bytes of model and tokenizer and milliseconds below."""
        return self.variant.accuracy

    @property
    def size_bytes(self) -> int:
        return self.variant.size_bytes

    @property
    def p50_ms(self) -> float:
        return self.variant.p50_ms


Point = TypeVar("Point", Measured, Found)


def searched(
    seed: int, model: Path, data: Path, work: Path, *, quick: bool
) -> tuple[list[Measured], RunResult]:
    """Every file that `compress: auto` measured, those of short trainings included."""
    task = _task(seed, data, work, quick)
    run = compress_model(str(model), task, runs_dir=work, listener=LISTENER)
    num_epochs = {
        stage.fingerprint: read_json(stage.folder / "stage.json")["inputs"]["distillation"]
        ["num_epochs"] for stage in run.stages if stage.name.startswith("student-")
    }  # fmt: skip
    measured = []
    for folder in dict.fromkeys(s.folder for s in run.stages if s.name.startswith("artefact-")):
        stage = read_json(folder / "stage.json")
        epochs = num_epochs[stage["inputs"]["student"]]
        name = stage["name"].removeprefix("artefact-")
        told = "" if name == "whole" else f", {epochs} epoch{'s' * (epochs > 1)}"
        measured += [Measured(f"{name}{told}", folder, each) for each in read_variants(folder)]
    return measured, run


def found(
    measured: Measured, calibration: Sequence[Mapping[str, np.ndarray]], place: Path
) -> Found:
    """With its file, which is made again where it was not kept."""
    variant, folder = measured.variant, measured.folder
    file = folder / (MODEL if variant.passes else FULL_PRECISION)
    if variant.passes and not variant.kept:
        inside = place / folder.name / "-".join(variant.passes)
        inside.mkdir(parents=True, exist_ok=True)
        file = apply_passes(
            variant.passes, folder / FULL_PRECISION, inside, calibration,
            asked_at=variant.passes,
        ).file  # fmt: skip
    return _found(measured.name, variant, file)


def trained(name: str, seed: int, model: Path, data: Path, work: Path, *, quick: bool) -> Found:
    """The file of a recipe after its whole training."""
    task = _task(seed, data, work, quick)
    changes = compressing(task, str(model), recipes=[name])
    store = Store(work / "store", LISTENER)
    context = Context(load_task(task, changes), task.parent, work, store, LISTENER, math.inf)
    ground = prepare_ground(context)
    (candidate,) = candidates_of(context.spec)
    artefact = make_artefact(ground, train_student(ground, candidate))
    return _found(name, artefact.chosen, artefact.model)


def _found(name: str, variant: Variant, file: Path) -> Found:
    passes = " + ".join(variant.passes) or "full precision"
    return Found(
        f"{name}, {passes}", file, variant.size_bytes, variant.accuracy, variant.p50_ms
    )  # fmt: skip


def _task(seed: int, data: Path, work: Path, quick: bool) -> Path:
    values: dict[str, Any] = task_values("quality", seed, data, quick=quick)
    del values["student"]
    minutes = QUICK_SEARCH_MINUTES if quick else SEARCH_MINUTES
    values |= {
        "name": f"clinc150-auto-{seed}",
        "compress": {"search": {"minutes": minutes}},
        "requirements": {"retention": RETAINED},
        "budget": {"wall_time_minutes": QUICK_MINUTES if quick else MINUTES + VERDICT_MINUTES},
    }
    if not quick:
        values["distillation"] = DISTILLATION
    return write_values(values, work)


def olive_rows(prepared: PreparedData, encoder: TextEncoder) -> Rows:
    """What Olive validates on and calibrates with: the same texts as our passes."""
    dataset = prepared.dataset
    train = encoder.encode(dataset.texts("train"))
    inputs = calibration_inputs(train, len(train), encoder.pad_id)
    encoded = encoder.encode(dataset.texts("validation"))
    rows = np.split(encoded.ids, encoded.starts[1:-1])
    return Rows(
        [row.tolist() for row in rows],
        dataset.targets("validation").tolist(),
        [each["input_ids"][0].tolist() for each in inputs],
    )


def front_of(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats on validation, the smallest first."""
    on_front = pareto_front([(f.accuracy, f.size_bytes, f.p50_ms) for f in points])
    kept = [f for f, is_kept in zip(points, on_front, strict=True) if is_kept]
    return sorted(kept, key=lambda f: (f.size_bytes, f.p50_ms))


def search_minutes(run: RunResult) -> float:
    """What search and final trainings took, stages that stood already at what they took then."""
    taken = {
        s.fingerprint: s.seconds for s in run.stages
        if s.name in SEARCHING or s.name.startswith(TRAINING)
    }  # fmt: skip
    return sum(taken.values()) / 60


if __name__ == "__main__":
    sys.exit(main())
