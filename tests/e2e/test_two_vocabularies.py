"""A student with other tokens than its teacher: refused, or aligned from the task to the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

import small_generation
import small_llama
import small_pretrained
from edgedistill.core.errors import ModelError, SpecError
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.run import run_task
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.loading import load
from edgedistill.runtime.verification import verify

SHAPE = {"num_heads": 2, "num_kv_heads": 1}
STUDENT: dict[str, Any] = {
    "vocabulary_size": 300,
    "shape": {**SHAPE, "hidden_size": 32, "num_layers": 1, "intermediate_size": 64},
    "training": {"num_epochs": 4, "learning_rate": 1e-2, "batch_tokens": 512},
    "weight_types": ["f16"],
}
ALIGNED = {"tokens": "aligned", "teacher": "live", "hard_weight": 0.5}


def shortened(folder: Path) -> None:
    """Keep the first rows that are asked."""
    for file in (folder / "validation.jsonl", folder / "test.jsonl"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(lines[:12]), encoding="utf-8")


def test_a_student_with_tokens_of_its_own_ships(tmp_path: Path) -> None:
    training = {"num_epochs": 4, "learning_rate": 5e-3, "batch_tokens": 512}
    teacher = {
        "vocabulary_size": 420,
        "shape": {**SHAPE, "hidden_size": 48, "num_layers": 2, "intermediate_size": 96},
        "training": training,
    }
    task = small_generation.write_task(
        tmp_path, teacher=teacher, student=STUDENT, distillation=ALIGNED,
        requirements={"retention": None},
    )  # fmt: skip
    shortened(tmp_path)
    run = run_task(task, runs_dir=tmp_path / "runs")
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    (note,) = (n for n in report["making"]["notes"] if "other tokens" in n)
    assert "begin where one of the teacher's does" in note
    (stage,) = (tmp_path / "runs" / "store").glob("student-*")
    record = json.loads((stage / "training.json").read_text(encoding="utf-8"))
    assert 0 < record["alignment"]["aligned"] <= record["alignment"]["of"]
    assert {"soft", "hard"} <= set(record["history"][0])
    assert record["history"][-1]["soft"] < record["history"][0]["soft"]

    ledger = {hop["name"]: hop for hop in report["ledger"]}
    student = ledger["student"]
    assert "cannot be told" in student["note"]
    compared = ("agreement", "agreement_with_first", "divergence", "perplexity_change")
    assert [student[name] for name in compared] == [None] * 4
    assert student["holds"]
    assert all(hop["agreement_with_first"] is None for hop in report["ledger"])
    assert ledger["GGUF f32"]["agreement"] >= 0.995
    assert ledger["bundle"]["agreement"] == 1.0

    generator = load(run.bundle)
    assert isinstance(generator, Generator)
    (file,) = (tmp_path / "runs" / "store").glob("vocabulary-*/tokenizer.json")
    own = Tokenizer.from_file(str(file))
    assert own.get_vocab_size() == 300
    text = "send 3 tea now"
    assert generator.tokenizer.encode(text) == own.encode(text, add_special_tokens=False).ids
    assert verify(run.bundle).holds
    assert len(generator.predict([text])) == 1


@pytest.mark.parametrize(
    ("student", "distillation", "why"),
    [
        (STUDENT, {}, "cannot be compared one by one"),
        (STUDENT, {"hard_weight": 1}, "set distillation.tokens to aligned"),
        (STUDENT, ALIGNED | {"teacher": "cached"}, "set teacher: live"),
        (STUDENT, ALIGNED | {"hard_weight": 0}, "between 0 and 1"),
        (STUDENT, ALIGNED | {"hard_weight": 1}, "between 0 and 1"),
        (STUDENT, ALIGNED | {"temperature": 2.0, "on_policy": 0.1}, "on_policy and temperature"),
        (STUDENT, ALIGNED | {"divergence": "reverse_kl"}, "no use for divergence"),
        (STUDENT | {"initialise": "teacher"}, ALIGNED, "brings a table of tokens"),
        ({}, ALIGNED, "for a student with tokens of its own"),
        (STUDENT | {"vocabulary_size": 20}, ALIGNED, "greater than or equal to 300"),
    ],
)
def test_what_does_not_go_together_is_refused_at_check(
    tmp_path: Path, student: dict[str, Any], distillation: dict[str, Any], why: str
) -> None:
    task = small_generation.write_task(tmp_path, student=student, distillation=distillation)
    with pytest.raises(SpecError, match=why):
        check_task(task)


def write_model(folder: Path, tokenizer: Tokenizer, width: int) -> None:
    size = tokenizer.get_vocab_size()
    model = small_llama.make_model(width=width, vocab_size=size, initializer_range=0.05)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"bos_token": "<|begin|>", "eos_token": "<|finish|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks), encoding="utf-8")


def test_a_pretrained_student_of_another_family(tmp_path: Path) -> None:
    whole_words, own = small_llama.make_tokenizer(), small_llama.make_tokenizer()
    whole_words.add_tokens(["ball", "cake", "had a"])
    write_model(tmp_path / "big", whole_words, 48)
    write_model(tmp_path / "small", own, 32)
    training = {"num_epochs": 7, "learning_rate": 5e-3, "batch_tokens": 128}
    student = {"source": "small", "training": training | {"num_epochs": 2}, "weight_types": ["f16"]}

    def write_task(**distillation: Any) -> Path:
        task = small_pretrained.write_task(
            tmp_path, "big", teacher={"training": training}, student=student,
            distillation=distillation,
            output={"purpose": "question_answering", "metric": "chrf", "max_new_tokens": 32},
        )  # fmt: skip
        shortened(tmp_path)
        return task

    with pytest.raises(ModelError, match="vocabulary mismatch") as told:
        check_task(write_task())
    assert "distillation.tokens: aligned" in str(told.value)
    check_task(write_task(**ALIGNED))
    run = run_task(write_task(**ALIGNED), runs_dir=tmp_path / "runs")
    (stage,) = (tmp_path / "runs" / "store").glob("student-*")
    share = json.loads((stage / "training.json").read_text(encoding="utf-8"))["alignment"]
    assert 0.5 < share["aligned"] / share["of"] < 1.0
    generator = load(run.bundle)
    assert isinstance(generator, Generator)
    ids = own.encode("a ball", add_special_tokens=False).ids
    assert generator.tokenizer.encode("a ball") == ids
    assert ids != whole_words.encode("a ball", add_special_tokens=False).ids
    assert verify(run.bundle).holds
