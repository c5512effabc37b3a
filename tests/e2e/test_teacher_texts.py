"""Learning what the teacher answers, and from a teacher in the loop: stages, resume, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import small_generation
from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import DataError, ModelError, StorageError
from edgedistill.core.events import Event, Listener, silent
from edgedistill.core.task_file import load_task
from edgedistill.export.gguf import write_gguf
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.dataset import PreparedConversations, prepare_conversations
from edgedistill.pipeline.generation.forecast import cache_bytes
from edgedistill.pipeline.generation.questions import questions_of
from edgedistill.pipeline.generation.student import Ground, train_student
from edgedistill.pipeline.generation.teacher import Teacher, context_tokens, prepare_teacher
from edgedistill.pipeline.generation.teacher_texts import (
    ANSWERS,
    PART,
    is_learnable,
    prepare_texts,
    with_answer,
)
from edgedistill.pipeline.generation.transfer import prepare_transfer
from edgedistill.pipeline.run import run_task
from edgedistill.pipeline.store import Store
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession


class Begun(NamedTuple):
    """A run up to its teacher."""

    context: Context[Any]
    data: PreparedConversations
    teacher: Teacher


Begin = Callable[..., Begun]
SHAPE = {"num_heads": 2, "num_kv_heads": 1}
TEACHER = {
    "vocabulary_size": 340,
    "shape": {**SHAPE, "hidden_size": 64, "num_layers": 2, "intermediate_size": 128},
    "training": {"num_epochs": 18, "patience": 9, "learning_rate": 5e-3, "batch_tokens": 512},
}
STUDENT = {
    "shape": {**SHAPE, "hidden_size": 32, "num_layers": 1, "intermediate_size": 64},
    "training": {"num_epochs": 1, "batch_tokens": 512},
    "weight_types": ["f16"],
}


def long_rows() -> list[dict[str, str]]:
    """Orders of seven figures: their answers are longer than all others."""
    return [
        {"prompt": f"{n} {word} please", "response": f'{{"item":"{word}","n":{n}}}'}
        for number, word in enumerate(small_generation.WORDS * 4)
        for n in [1_234_567 + 761_943 * number % 8_000_000]
    ]


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """Begins the small task with a teacher that is not perfect; all share its store."""
    folder = tmp_path_factory.mktemp("texts")

    def begin(listener: Listener = silent, store: Path | None = None, **changes: Any) -> Begun:
        changes = {"teacher": TEACHER, "student": STUDENT} | changes
        task = small_generation.write_task(folder, **changes)
        with (folder / "train.jsonl").open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in long_rows())
        kept = Store(folder / "runs" / "store", listener)
        spec: Any = load_task(task)
        context = Context(spec, folder, folder, kept, listener, float("inf"))
        data = prepare_conversations(context)
        teacher = prepare_teacher(context, data)
        if store is not None:
            own = Store(store, listener)
            context = Context(spec, folder, folder, own, listener, float("inf"))
        return Begun(context, data, teacher)

    return begin


def test_the_texts_are_what_the_teacher_answers(begin: Begin, tmp_path: Path) -> None:
    begun = begin(distillation={"texts": "teacher"})
    texts = prepare_texts(*begun)
    rows = begun.data.rows
    file = tmp_path / "teacher.gguf"
    write_gguf(begun.teacher.load(), begun.teacher.encoder.tokenizer, to=file, kind="f16")
    grammar, said = json_grammar(dict(rows.schema or {})), {}
    with LlamaCppSession(file, context=context_tokens(begun.context.spec)) as session:
        for row in rows.train:
            ids = begun.teacher.encoder.encode_prompt(row.prompt).tolist()
            said[row.id] = session.generate(ids, max_new_tokens=32, grammar=grammar)
    whole = {name: found.text for name, found in said.items() if found.finish == "stop"}
    assert {row.id: row.response for row in texts.rows} == whole
    assert [row.prompt for row in texts.rows] == [r.prompt for r in rows.train if r.id in whole]
    assert (texts.num_asked, texts.num_taken) == (len(rows.train), len(whole))
    assert sum(texts.left_out.values()) == len(rows.train) - len(whole)
    # A perfect teacher, or a useless one, would show nothing here.
    assert 0 < texts.num_known < texts.num_taken


def test_both_adds_the_texts_that_are_other(begin: Begin) -> None:
    taught = prepare_texts(*begin(distillation={"texts": "teacher"}))
    begun = begin(distillation={"texts": "both"})
    both = prepare_texts(*begun)
    train = begun.data.rows.train
    own = {row.id: row.response for row in train}
    assert both.rows[: len(train)] == train
    assert [row.response for row in both.rows[len(train) :]] == [
        row.response for row in taught.rows if row.response != own[row.id]
    ]
    assert len(both.rows) == len(train) + both.num_taken - both.num_known
    assert len({both.fingerprint, taught.fingerprint, begun.data.stage.fingerprint}) == 3


def test_prompts_without_answers_are_answered_and_learned(begin: Begin, tmp_path: Path) -> None:
    taught = prepare_texts(*begin(distillation={"texts": "teacher"}))
    said = {row.prompt: row.turns for row in taught.rows}
    asked = [row.prompt[0].content for row in taught.rows[:5]] + ["ten tea", "bread soap 3"]
    small_generation.write_rows(tmp_path / "asked.jsonl", [{"prompt": text} for text in asked])
    data = {"files": {s: f"{s}.jsonl" for s in ("train", "validation", "test")},
            "unlabelled": str(tmp_path / "asked.jsonl")}  # fmt: skip
    begun = begin(data=data, distillation={"augmentation": {"num_texts": 40}})
    texts, train = prepare_texts(*begun), begun.data.rows.train
    assert texts.num_asked == 47
    assert texts.rows[: len(train)] == train
    more = texts.rows[len(train) :]
    assert len(more) == texts.num_taken == 47 - sum(texts.left_out.values())
    assert texts.num_known == 0
    # The same prompt, the same answer, whether it has one in the rows or not.
    assert [row.turns for row in more[:5]] == [said[row.prompt] for row in more[:5]]
    known = {row.prompt for row in train}
    made = [row for row in more if row.id.startswith("made:")]
    assert len(made) > 20
    assert all(row.prompt not in known and row.response for row in made)
    assert "47 prompts" in (texts.sentence() or "")
    assert prepare_texts(*begun).rows == texts.rows
    other = begin(data=data, distillation={"augmentation": {"num_texts": 40}}, seed=1)
    assert prepare_texts(*other).rows != texts.rows


def test_prompts_are_made_of_single_turns_alone(begin: Begin) -> None:
    begun = begin(distillation={"augmentation": {"num_texts": 4}})
    talk = Conversation("one", tuple(Turn(r, "x") for r in ("user", "assistant") * 2))
    rows = replace(begun.data.rows, train=(talk,))
    with pytest.raises(DataError, match="single turn"):
        questions_of(begun.context.spec, rows)


def test_a_killed_run_goes_on_after_its_last_part(begin: Begin, tmp_path: Path) -> None:
    whole = prepare_texts(*begin(distillation={"texts": "teacher"}))
    assert whole.stage is not None

    class Killed(BaseException):
        pass

    def kill(event: Event) -> None:
        if event.stage == "teacher-texts" and event.kind == "progress":
            raise Killed

    with pytest.raises(Killed):
        prepare_texts(*begin(kill, tmp_path, distillation={"texts": "teacher"}))
    (partial,) = tmp_path.glob("teacher-texts-*.partial")
    kept = (partial / ANSWERS).read_bytes()
    assert kept.count(b"\n") == PART
    (partial / ANSWERS).write_bytes(kept + b'{"text": "{\\"item')  # torn by the kill
    told: list[float | None] = []

    def listen(event: Event) -> None:
        if event.stage == "teacher-texts" and event.kind == "progress":
            told.append(event.fraction)

    again = prepare_texts(*begin(listen, tmp_path, distillation={"texts": "teacher"}))
    assert again.stage is not None
    content = (again.stage.folder / ANSWERS).read_bytes()
    assert content == (whole.stage.folder / ANSWERS).read_bytes()
    assert content.startswith(kept)
    assert again.rows == whole.rows
    assert told[0] == 2 * PART / whole.num_asked
    assert told[-1] == 1.0


def test_answers_that_are_cut_off_are_left_out_and_counted(begin: Begin) -> None:
    begun = begin(distillation={"texts": "teacher"})
    full = {row.id: row.response for row in prepare_texts(*begun).rows}
    lengths = [len(begun.teacher.encoder.content_ids(text)) for text in full.values()]
    limit = (min(lengths) + max(lengths)) // 2
    output = {"purpose": "json", "schema_file": "schema.json", "max_new_tokens": limit}
    # The same context in all, and so the same teacher.
    limits = {"max_tokens": 64 - limit, "languages": []}
    cut = prepare_texts(*begin(distillation={"texts": "teacher"}, output=output, input=limits))
    assert 0 < cut.num_taken < len(full)
    assert cut.left_out["unfinished"] >= len(full) - cut.num_taken
    assert {row.id: row.response for row in cut.rows}.items() <= full.items()
    assert f"{cut.left_out['unfinished']} cut off" in (cut.sentence() or "")


def test_a_teacher_without_one_answer_is_told(begin: Begin) -> None:
    output = {"purpose": "json", "schema_file": "schema.json", "max_new_tokens": 2}
    limits = {"max_tokens": 62, "languages": []}
    begun = begin(distillation={"texts": "both"}, output=output, input=limits)
    with pytest.raises(ModelError, match="not one can be learned"):
        prepare_texts(*begun)


@pytest.mark.parametrize("text", ["", " \n", "<draft>why", "<response></response>", "tea " * 999])
def test_what_is_no_answer_cannot_be_learned(begin: Begin, text: str) -> None:
    begun = begin()
    assert not is_learnable(begun.data.rows.train[0], text, begun.teacher.encoder)


def test_sections_are_read_back(begin: Begin) -> None:
    row = with_answer(begin().data.rows.train[0], "<draft>2?</draft><response>3 tea</response>")
    assert (row.turns[-1].draft, row.turns[-1].thinking, row.response) == ("2?", None, "3 tea")


def test_any_text_can_be_learned_or_cannot(begin: Begin) -> None:
    begun = begin()
    row, encoder = begun.data.rows.train[0], begun.teacher.encoder

    @settings(max_examples=60, deadline=None)
    @given(st.text(st.characters(exclude_categories=()), max_size=60))
    def holds(text: str) -> None:
        if is_learnable(row, text, encoder):
            assert with_answer(row, text).prompt == row.prompt
            assert encoder.encode(with_answer(row, text)).learned.any()
        else:
            with pytest.raises(DataError):
                encoder.encode(with_answer(row, text))

    holds()


@pytest.mark.parametrize(
    ("distillation", "stages", "terms"),
    [
        ({"texts": "teacher"}, ["teacher-texts", "transfer", "student"], {"soft", "hard"}),
        ({"texts": "both", "hard_weight": 1}, ["teacher-texts", "student"], {"next_token"}),
        ({"teacher": "live"}, ["student"], {"soft", "hard"}),
        ({"teacher": "live", "hard_weight": 0}, ["student"], {"soft"}),
    ],
)
def test_the_student_learns_what_the_task_says(
    begin: Begin, distillation: dict[str, Any], stages: list[str], terms: set[str]
) -> None:
    context, data, teacher = begin(distillation=distillation)
    texts = prepare_texts(context, data, teacher)
    transfer = prepare_transfer(context, teacher, texts)
    student = train_student(Ground(context, data, teacher, transfer))
    assert [stage.name for stage in context.store.results] == ["data", "teacher", *stages]
    (epoch,) = student.training["history"]
    assert terms | {"epoch", "validation", "seconds"} == set(epoch)
    if transfer.stage is not None:
        size = (transfer.stage.folder / "topk.bin").stat().st_size
        spec, num_tokens = context.spec, len(teacher.tokenizer)
        assert size == cache_bytes(spec, num_tokens, transfer.rows.num_learned)
        assert transfer.num_tokens == transfer.rows.num_learned


def test_the_run_tells_how_many_texts_were_taken(begin: Begin) -> None:
    context = begin(distillation={"texts": "teacher", "hard_weight": 1}).context
    run = run_task(context.root / "task.yaml", runs_dir=context.root / "runs")
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    (note,) = (n for n in report["making"]["notes"] if "jumped" not in n)
    assert "217 prompts" in note
    assert note in (run.folder / "report.md").read_text(encoding="utf-8")
    assert "transfer" not in [stage.name for stage in run.stages]


def test_a_cache_over_the_disk_is_told_before_the_teacher_reads(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int = 1000

    context, data, teacher = begin(distillation={"top_k": 200})
    live = small_generation.write_task(context.root / "live", distillation={"teacher": "live"})
    cached = small_generation.write_task(context.root / "cached", distillation={"top_k": 200})
    needed = [check_task(task).forecast.disk_bytes for task in (cached, live)]
    assert needed[0] - needed[1] > 200 * 4 * len(data.rows.train)
    texts = prepare_texts(context, data, teacher)
    monkeypatch.setattr("edgedistill.core.files.shutil.disk_usage", lambda _: Usage())
    with pytest.raises(StorageError, match=r"distillation\.teacher: live"):
        check_task(cached)
    check_task(live)
    with pytest.raises(StorageError, match=r"distillation\.teacher: live"):
        prepare_transfer(context, teacher, texts)
