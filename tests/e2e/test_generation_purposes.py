"""Translation, summarisation, question answering, instructions: cuts of real data, each from its
rows to a verified bundle that answers. The models are tiny: what is tested is the way, not them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import small_generation
from edgedistill.cli.app import app
from edgedistill.evaluate.text_words import lacks_spaces
from edgedistill.pipeline.run import RunResult, run_task
from edgedistill.runtime.verification import verify

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NUM_TRAIN, NUM_HELD = 96, 20
Row = dict[str, str]
Splits = dict[str, list[Row]]


def _short(name: str, row_of: Callable[[Any], Row], *, prompt: int, response: int) -> list[Row]:
    """Rows of a file with at most so many characters, each prompt once."""
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    rows = {row["prompt"]: row for row in map(row_of, map(json.loads, lines))}
    return [
        row for row in rows.values()
        if len(row["prompt"]) <= prompt and 0 < len(row["response"].strip()) <= response
    ]  # fmt: skip


def _splits(train: list[Row], validation: list[Row], test: list[Row]) -> Splits:
    known = {row["prompt"] for row in train[:NUM_TRAIN]}
    # Answers that training has seen come first: else so small a teacher has nothing right, and
    # then a run has nothing to judge.
    answers = {row["response"] for row in train[:NUM_TRAIN]}
    held = [
        sorted((row for row in rows if row["prompt"] not in known),
               key=lambda row: row["response"] not in answers)
        for rows in (validation, test)
    ]  # fmt: skip
    return {
        "train": train[:NUM_TRAIN],
        "validation": held[0][:NUM_HELD],
        "test": held[1][:NUM_HELD],
    }


def _translation() -> Splits:
    def row_of(found: Any) -> Row:
        # Japanese as it is written: without spaces between words.
        return {"prompt": found["source"], "response": found["target"].replace(" ", "")}

    names = (f"small_parallel_enja/{s}.jsonl" for s in ("train", "validation", "test"))
    return _splits(*(_short(name, row_of, prompt=24, response=12) for name in names))


def _summarisation() -> Splits:
    def row_of(found: Any) -> Row:
        return {"prompt": found["document"], "response": found["summary"]}

    names = (f"mts_dialog/{s}.jsonl" for s in ("train", "validation", "test"))
    return _splits(*(_short(name, row_of, prompt=260, response=40) for name in names))


def _question_answering() -> Splits:
    def row_of(found: Any) -> Row:
        choices = zip(found["labels"], found["choices"], strict=True)
        listed = " ".join(f"({label}) {choice}" for label, choice in choices)
        return {"prompt": f"{found['question']} {listed}", "response": found["answer"]}

    # The official test has no answers: validation is parted in two.
    train, held = (
        _short(f"commonsense_qa/{name}.jsonl", row_of, prompt=110, response=1)
        for name in ("train", "validation")
    )
    return _splits(train, held[::2], held[1::2])


def _instructions() -> Splits:
    def row_of(found: Any) -> Row:
        return {
            "prompt": f"{found['instruction']}\n{found['input']}".strip(),
            "response": found["output"],
        }

    rows = _short("self_instruct/seed_tasks.jsonl", row_of, prompt=200, response=80)
    # Forty rows of forty kinds: validated on rows it learns from, training goes on until it knows
    # them by heart; on others it would stop where a model says nothing at all.
    return {"train": rows[10:], "validation": rows[10:20], "test": rows[:10]}


PURPOSES = {
    "translation": (_translation, "BLEU"),
    "summarisation": (_summarisation, "ROUGE-L"),
    "question_answering": (_question_answering, "exact match"),
    "instructions": (_instructions, "chrF"),
}
Finished = tuple[str, Splits, RunResult]


@pytest.fixture(scope="module", params=PURPOSES)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The purpose, its rows, and the run of a task on them."""
    purpose = request.param
    folder = tmp_path_factory.mktemp(purpose)
    splits = PURPOSES[purpose][0]()
    shape = {"num_heads": 2, "num_kv_heads": 1, "num_layers": 1}
    num_epochs = 50 if purpose == "instructions" else 12
    training = {
        "num_epochs": num_epochs,
        "learning_rate": 1e-2,
        "batch_tokens": 384,
        "patience": 50,
    }
    task = small_generation.write_task(
        folder,
        name=purpose.replace("_", "-"),
        input={"max_tokens": 512, "languages": []},
        output={"purpose": purpose, "max_new_tokens": 64},
        boundary={},
        teacher={
            "vocabulary_size": 420,
            "shape": {**shape, "hidden_size": 48, "intermediate_size": 96},
            "training": training,
        },
        student={
            "shape": {**shape, "hidden_size": 32, "intermediate_size": 64},
            "training": training,
            "weight_types": ["f16", "q8_0"],
        },
        requirements={"retention": None, "size_mb": 1.0},
    )
    for name, rows in splits.items():
        small_generation.write_rows(folder / f"{name}.jsonl", rows)
    return purpose, splits, run_task(task, runs_dir=folder / "runs")


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not here")
def test_a_purpose_goes_from_real_rows_to_a_bundle_that_answers(finished: Finished) -> None:
    purpose, splits, run = finished
    assert len(splits["train"]) >= 30
    assert min(len(splits["validation"]), len(splits["test"])) >= 9
    assert lacks_spaces([row["response"] for row in splits["test"]]) == (purpose == "translation")
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    assert report["quality"]["score"] == PURPOSES[purpose][1]
    scores = run.measurements["score"]
    assert set(scores) == {"teacher", "control", "shipped"}
    assert 0.0 < scores["teacher"] <= 1.0
    assert all(0.0 <= value <= 1.0 for value in scores.values())
    assert verify(run.bundle).holds


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not here")
def test_its_bundle_answers_on_the_command_line(finished: Finished) -> None:
    _, splits, run = finished
    runner = CliRunner()
    asked = [row["prompt"] for row in splits["test"]]
    for prompt in asked[:3]:
        said = runner.invoke(app, ["predict", str(run.bundle), "--json", "--", prompt])
        assert said.exit_code == 0, said.output
        found = json.loads(said.stdout)
        assert found["abstained"] == (found["answer"] is None)
        if found["abstained"]:
            assert found["reason"] in (
                "unfinished",
                "repeats",
                "says_nothing",
                "out_of_bounds",
                "too_long",
            )
