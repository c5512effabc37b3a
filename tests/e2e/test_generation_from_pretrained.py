"""A real pretrained Llama (stories260K) adapted, cut, distilled and shipped; odd rows too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import small_generation
import small_pretrained
from edgedistill.pipeline.run import run_task
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.loading import load
from small_tokenizers import STORIES, needs_stories


@pytest.mark.real
@needs_stories
def test_stories_learn_to_answer_by_adapters_and_a_cut_student_ships(tmp_path: Path) -> None:
    task = small_pretrained.write_task(
        tmp_path, str(STORIES), teacher={"adapters": {"rank": 16, "alpha": 32}}
    )
    result = run_task(task, runs_dir=tmp_path / "runs")
    assert result.ships, result.reasons
    report = json.loads((result.folder / "report.json").read_text(encoding="utf-8"))
    scores = {hop["name"]: hop["score"] for hop in report["ledger"]}
    assert scores["teacher"] >= 0.9
    assert scores["bundle"] >= 0.8
    agreements = {hop["name"]: hop["agreement"] for hop in report["ledger"]}
    assert agreements["GGUF f32"] >= 0.995
    # The same file through its own tokenizer and frames: not one token may differ.
    assert agreements["bundle"] == 1.0
    generator = load(result.bundle)
    assert isinstance(generator, Generator)
    (found,) = generator.predict(["Lily had a red dog. What did Lily have?"])
    assert found.text is not None
    # The space by which this tokenizer begins a text is no part of an answer.
    assert found.text == found.text.strip()
    pieces: list[str] = []
    asked = ("user", "Lily had a red dog. What did Lily have?")
    generator.answer([asked], on_text=pieces.append)
    assert "".join(pieces) == found.text
    assert generator.manifest.provenance["teacher"].startswith(str(STORIES))


@pytest.mark.real
@needs_stories
def test_the_vocabulary_of_stories_is_cut_to_what_the_task_uses(tmp_path: Path) -> None:
    task = small_pretrained.write_task(
        tmp_path, str(STORIES),
        teacher={"adapters": {"rank": 16, "alpha": 32}, "vocabulary": "used"},
    )  # fmt: skip
    result = run_task(task, runs_dir=tmp_path / "runs")
    report = json.loads((result.folder / "report.json").read_text(encoding="utf-8"))
    (told,) = (n for n in report["making"]["notes"] if "vocabulary" in n)
    assert re.search(r"cut from 512 to (2[6-9]\d|3\d\d) tokens", told)
    ledger = {hop["name"]: hop for hop in report["ledger"]}
    assert ledger["teacher"]["score"] >= 0.9
    assert ledger["bundle"]["score"] >= 0.5
    assert ledger["GGUF f32"]["agreement"] >= 0.995
    assert ledger["bundle"]["agreement"] == 1.0


def test_thinking_is_learned_and_only_the_response_is_given_out(tmp_path: Path) -> None:
    """Rows with turns and sections, in ChatML, from nothing."""
    kinds = {"tea": "drink", "milk": "drink", "rice": "food", "eggs": "food", "soap": "other"}
    ways = ("what is {}", "and {}?", "{}", "tell me of {}", "{} then", "so {}")

    def row(thing: str, way: str, *, asks_twice: bool) -> dict[str, object]:
        kind = kinds[thing]
        answer = {"role": "assistant", "content": kind, "thinking": f"{thing}: {kind}"}
        asked = {"role": "user", "content": way.format(thing)}
        before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
        return {"talk": [*(before if asks_twice else []), asked, answer]}

    rows = [row(t, way, asks_twice=n % 3 == 0) for t in kinds for n, way in enumerate(ways)]
    held = {"validation": rows[1::4], "test": rows[2::4]}
    for name, found in {"train": rows, **held}.items():
        small_generation.write_rows(tmp_path / f"{name}.jsonl", found)
    training = {"num_epochs": 60, "patience": 60, "learning_rate": 1e-2, "batch_tokens": 256}
    shape = {"num_heads": 2, "num_kv_heads": 1, "hidden_size": 48, "num_layers": 2,
             "intermediate_size": 96}  # fmt: skip
    task = small_generation.write_task(
        tmp_path / "task",
        template="chatml",
        data={"files": {s: f"../{s}.jsonl" for s in ("train", *held)}, "messages_column": "talk"},
        output={"purpose": "question_answering", "max_new_tokens": 48},
        teacher={"vocabulary_size": 320, "shape": shape, "training": training},
        # All layers at full width: the teacher itself, once more over the rows.
        student={
            "shape": shape,
            "initialise": "teacher",
            "weight_types": ["f16"],
            "training": training | {"num_epochs": 1, "learning_rate": 1e-4},
        },
        boundary={"false_abstention_rate": 0.1},
        requirements={"retention": None},
    )
    result = run_task(task, runs_dir=tmp_path / "runs")
    report = json.loads((result.folder / "report.json").read_text(encoding="utf-8"))
    ledger = {hop["name"]: hop for hop in report["ledger"]}
    assert ledger["bundle"]["agreement"] == 1.0
    assert ledger["bundle"]["score"] >= 0.8
    generator = load(result.bundle)
    assert isinstance(generator, Generator)
    assert generator.settings.sections
    prompt = generator.prompt_ids([("user", "what is milk")])
    written = generator.complete(prompt, 48).text
    assert written.startswith("<thinking>")
    pieces: list[str] = []
    found = generator.answer([("user", "what is milk")], on_text=pieces.append)
    assert found.text is not None, found
    assert "thinking" not in found.text
    assert f"<response>{found.text}</response>" in written
    assert pieces == [found.text]
    cut = generator.answer([("user", "what is milk")], max_new_tokens=4)
    assert cut.reason == "unfinished"
