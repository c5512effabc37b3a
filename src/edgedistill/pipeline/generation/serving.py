"""Models asked as the bundle asks: the same file format, prompts, grammar and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.core.conversation import Conversation
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.pipeline.generation.dataset import Conversations
from edgedistill.pipeline.generation.teacher import context_tokens
from edgedistill.runtime.generation.answer import Reason
from edgedistill.runtime.generation.completion import Completion, LanguageSession
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.sessions import ONNX, open_session
from edgedistill.runtime.generation.settings import GenerationSettings
from edgedistill.runtime.generation.written import fault, schema_check
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.frames import frames_of

if TYPE_CHECKING:
    from edgedistill.pipeline.generation.reader import Reader
    from edgedistill.pipeline.generation.student import Ground


@dataclass(frozen=True)
class Asked:
    """What a model wrote to some prompts; an answer is None where it is no answer."""

    completions: tuple[Completion, ...]
    answers: tuple[str | None, ...]

    @property
    def doubts(self) -> list[float]:
        """Mean of -log p of each answer's tokens."""
        return [completion.doubt for completion in self.completions]


def generation_settings(
    spec: GenerationSpec, encoder: ConversationEncoder, rows: Conversations
) -> GenerationSettings:
    """The template as ids, and the limits, as they stand in the bundle."""
    return frames_of(encoder).settings(
        context=context_tokens(spec),
        max_new_tokens=spec.output.max_new_tokens,
        schema=rows.schema,
        sections=rows.has_sections,
        beams=spec.output.beams,
        length_penalty=spec.output.length_penalty,
    )


def open_model(spec: GenerationSpec, encoder: ConversationEncoder, file: Path) -> LanguageSession:
    """A file of the run in the runtime that would run it on a device."""
    return open_session(
        file,
        tokenizer=encoder.tokenizer.to_str(),
        threads=spec.requirements.threads,
        context=context_tokens(spec),
    )


def search_of(spec: GenerationSpec) -> dict[str, Any]:
    """How an answer is looked for, as `LanguageSession.generate` takes it."""
    return {"beams": spec.output.beams, "length_penalty": spec.output.length_penalty}


def prompt_text(row: Conversation) -> str:
    """What the user asks last."""
    return row.prompt[-1].content


def prompts_of(reader: Reader, rows: Sequence[Conversation]) -> list[list[int]]:
    """Token ids of the rows' prompts, for models that read so."""
    return [reader.encoder.encode_prompt(row.prompt).tolist() for row in rows]


def ask(
    ground: Ground,
    reader: Reader,
    file: Path,
    prompts: Sequence[Sequence[int]],
    *,
    constrained: bool = True,
) -> Asked:
    """Answers of a file as the bundle would give them; plain greedy ones, without the task's
    schema and beams, unless `constrained`."""
    completions, answers = list[Completion](), list[str | None]()
    spec, schema = ground.context.spec, ground.data.rows.schema
    settings = generation_settings(spec, reader.encoder, ground.data.rows)
    with asking(spec, reader.encoder, schema, file, constrained=constrained) as answer:
        for ids in prompts:
            found, wrong = answer(ids)
            completions.append(found)
            answers.append(settings.response(found.text) if wrong is None else None)
    return Asked(tuple(completions), tuple(answers))


@contextmanager
def asking(
    spec: GenerationSpec,
    encoder: ConversationEncoder,
    schema: Any,
    file: Path,
    *,
    constrained: bool = True,
) -> Iterator[Callable[[Sequence[int]], tuple[Completion, Reason | None]]]:
    """A file to be asked prompt by prompt while the block runs.

    Yields a function from a prompt's ids to what was written, and why that is no answer (None
    where it is one).
    """
    limit, check = spec.output.max_new_tokens, schema_check(schema)
    grammar = json_grammar(dict(schema)) if schema is not None and constrained else None
    # Beams are a search of the ONNX runtime; a teacher's GGUF file writes greedily beside them.
    search = search_of(spec) if constrained and file.suffix == ONNX else {}
    with open_model(spec, encoder, file) as session:

        def answer(ids: Sequence[int]) -> tuple[Completion, Reason | None]:
            found = session.generate(
                ids, max_new_tokens=limit, grammar=grammar, begins_text=True, **search
            )
            wrong = fault(
                found.text, finished=found.finish == "stop",
                max_new_tokens=limit, check=check,
            )  # fmt: skip
            return found, None if wrong is None else wrong[0]

        yield answer
