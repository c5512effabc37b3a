"""Stage `teacher-texts`: what the teacher answers to prompts, for the student to learn
(sequence-level distillation: Kim & Rush 2016, arXiv 1606.07947, with a beam of one)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import DataError, ModelError
from edgedistill.core.events import Event
from edgedistill.core.files import fingerprint, storage_errors
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.dataset import PreparedConversations
from edgedistill.pipeline.generation.questions import Question, questions_of
from edgedistill.pipeline.generation.serving import asking
from edgedistill.pipeline.generation.teacher import Teacher, context_tokens
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.generation.sections import read_sections
from edgedistill.tasks.generation.encoding import ConversationEncoder

ROOMS = (
    "data/augmentation",
    "export",
    "runtime/generation",
    "tasks/generation",
    "pipeline/generation/questions",
    "pipeline/generation/serving",
    "pipeline/generation/teacher_texts",
)
ANSWERS, TEACHER_FILE = "texts.jsonl", "teacher.gguf"
#: Prompts of a part: a killed run asks the last one again.
PART = 32
#: Why an answer is not learned, beside the runtime's own reasons, and what people are told.
NO_ROOM, UNLEARNABLE = "no_room", "unlearnable"
REASONS = {
    "unfinished": "cut off",
    "repeats": "in a loop",
    "breaks_schema": "against the schema",
    NO_ROOM: "prompt too long to be answered",
    UNLEARNABLE: "empty or not to be encoded",
}


@dataclass(frozen=True)
class LearnedTexts:
    """The conversations that a student learns from.

    `stage`: None where the teacher was asked nothing. `num_asked`, `num_taken`: prompts that
    the teacher answered, answers of its that are learned; `num_known`: taken ones that are the
    row's own answer; `left_out`: the others by reason.
    """

    rows: tuple[Conversation, ...]
    fingerprint: str
    stage: StageResult | None = None
    num_asked: int = 0
    num_taken: int = 0
    num_known: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    def sentence(self) -> str | None:
        """What became of the teacher's answers, for the report; None where it was not asked."""
        if self.stage is None:
            return None
        said = (
            f"The teacher answered {self.num_asked:,} prompts: {self.num_taken:,} texts "
            f"taken ({self.num_known:,} of them the row's own answer), "
            f"{sum(self.left_out.values()):,} left out"
        )
        why = ", ".join(f"{count:,} {REASONS[name]}" for name, count in self.left_out.items())
        return f"{said} ({why})." if why else f"{said}."


def prepare_texts(
    context: Context[GenerationSpec], data: PreparedConversations, teacher: Teacher
) -> LearnedTexts:
    """The texts that the task asks for: the rows', the teacher's answers to them, or both; and its
    answers to prompts that are no training rows.

    Raises:
        ModelError: not one answer of the teacher can be learned.
    """
    chosen, rows = context.spec.distillation.texts, data.rows.train
    questions = questions_of(context.spec, data.rows)
    if not questions:
        return LearnedTexts(rows, data.stage.fingerprint)
    stage = _ask_teacher(context, data, teacher, questions)
    known = {row.id: row for row in rows}
    answered, left_out = list[Conversation](), Counter[str]()
    with (stage.folder / ANSWERS).open("rb") as lines:
        for question, line in zip(questions, lines, strict=True):
            answer = json.loads(line)
            if answer["reason"] is None:
                answered.append(with_answer(question, answer["text"]))
            else:
                left_out[answer["reason"]] += 1
    if not answered:
        raise ModelError(
            f"of the teacher's {len(questions):,} answers not one can be learned",
            where="distillation",
            fix="train the teacher longer, raise output.max_new_tokens, or set texts to rows, with "
            "no other prompts",
        )
    other = [row for row in answered if row.id not in known or row.turns != known[row.id].turns]
    return LearnedTexts(
        rows=tuple(answered) if chosen == "teacher" else (*rows, *other),
        fingerprint=fingerprint([chosen, data.stage.fingerprint, stage.fingerprint]),
        stage=stage,
        num_asked=len(questions),
        num_taken=len(answered),
        num_known=len(answered) - len(other),
        left_out=dict(left_out.most_common()),
    )


def _ask_teacher(
    context: Context[GenerationSpec],
    data: PreparedConversations,
    teacher: Teacher,
    questions: Sequence[Question],
) -> StageResult:
    """Answers to all questions, a line each; a killed run goes on after its last part."""
    spec = context.spec
    inputs = {
        "data": data.stage.fingerprint,
        "teacher": teacher.stage.fingerprint,
        "max_new_tokens": spec.output.max_new_tokens,
        "rows": spec.distillation.texts != "rows",
        "augmentation": spec.distillation.augmentation.model_dump(mode="json"),
        "seed": spec.seed,
    }

    def compute(folder: Path) -> None:
        from edgedistill.export.gguf import write_gguf

        tokenizer, file = teacher.encoder.tokenizer, folder / TEACHER_FILE
        write_gguf(teacher.load(), tokenizer, to=file, kind="f16", name=spec.name)
        kept = _Kept(folder / ANSWERS)
        with asking(spec, teacher.encoder, data.rows.schema, file) as ask:
            for start in range(kept.num_lines, len(questions), PART):
                some = questions[start : start + PART]
                kept.append(_answer(one, ask, teacher.encoder, spec) for one in some)
                message = f"{kept.num_lines:,} of {len(questions):,} prompts answered"
                done = kept.num_lines / len(questions)
                context.listener(Event("teacher-texts", "progress", message, done))
        file.unlink()

    return context.store.stage("teacher-texts", inputs, compute, rooms=ROOMS)


def _answer(
    question: Question,
    ask: Callable[[Sequence[int]], Any],
    encoder: ConversationEncoder,
    spec: GenerationSpec,
) -> dict[str, str | None]:
    """The teacher's text, and why it cannot be learned (None where it can)."""
    ids = encoder.encode_prompt(question.prompt).tolist()
    if len(ids) + spec.output.max_new_tokens > context_tokens(spec):
        return {"text": "", "reason": NO_ROOM}
    found, wrong = ask(ids)
    if wrong is None and not is_learnable(question, found.text, encoder):
        wrong = UNLEARNABLE
    return {"text": found.text, "reason": wrong}


def is_learnable(row: Question | Conversation, text: str, encoder: ConversationEncoder) -> bool:
    """Whether a text can be learned as the row's answer: a response that fits the context."""
    try:
        encoder.encode(with_answer(row, text))
    except DataError:
        return False
    return True


def with_answer(row: Question | Conversation, text: str) -> Conversation:
    """The row with what a model wrote as its answer; raises DataError where that is none."""
    parts = read_sections(text)
    turn = Turn("assistant", parts.response or "", parts.draft, parts.thinking)
    return Conversation(row.id, (*row.prompt, turn), row.metadata)


class _Kept:
    """A file of JSON lines that is whole up to its last line break, whenever a run was killed."""

    def __init__(self, path: Path) -> None:
        self.path, self.num_lines = path, 0
        with storage_errors(path):
            path.touch()
            content = path.read_bytes()
            os.truncate(path, content.rfind(b"\n") + 1)
        self.num_lines = content.count(b"\n")

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add entries behind all others; kept for good once this returns."""
        lines = [json.dumps(entry).encode() + b"\n" for entry in entries]
        with storage_errors(self.path), self.path.open("ab") as stream:
            stream.write(b"".join(lines))
            stream.flush()
            os.fsync(stream.fileno())
        self.num_lines += len(lines)
