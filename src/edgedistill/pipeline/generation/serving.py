"""Models asked as the bundle asks: the same file format, prompts, grammar and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill.core.conversation import Conversation
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.pipeline.generation.dataset import Conversations
from edgedistill.pipeline.generation.student import Ground
from edgedistill.pipeline.generation.teacher import context_tokens
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.llama_cpp import Completion, LlamaCppSession
from edgedistill.runtime.generation.settings import GenerationSettings
from edgedistill.runtime.generation.written import fault, schema_check
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.frames import frames_of


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
    )


def prompts_of(ground: Ground, rows: Sequence[Conversation]) -> list[list[int]]:
    """Token ids of the rows' prompts."""
    return [ground.teacher.encoder.encode_prompt(row.prompt).tolist() for row in rows]


def ask(
    ground: Ground, file: Path, prompts: Sequence[Sequence[int]], *, constrained: bool = True
) -> Asked:
    """Greedy answers of a GGUF file, by the task's schema unless not `constrained`."""
    # llama.cpp's server may wait for ever when it is closed before it was asked anything.
    if not prompts:
        return Asked((), ())
    spec, schema = ground.context.spec, ground.data.rows.schema
    limit = spec.output.max_new_tokens
    grammar = json_grammar(dict(schema)) if schema is not None and constrained else None
    settings = generation_settings(spec, ground.teacher.encoder, ground.data.rows)
    completions, answers, check = [], [], schema_check(schema)
    with LlamaCppSession(
        file, threads=spec.requirements.threads, context=context_tokens(spec)
    ) as session:
        for ids in prompts:
            found = session.generate(ids, max_new_tokens=limit, grammar=grammar, begins_text=True)
            wrong = fault(
                found.text, finished=found.finish == "stop",
                max_new_tokens=limit, check=check,
            )  # fmt: skip
            completions.append(found)
            answers.append(settings.response(found.text) if wrong is None else None)
    return Asked(tuple(completions), tuple(answers))
