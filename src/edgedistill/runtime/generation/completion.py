"""What a language model's session is asked and answers, whatever runs the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from edgedistill.core.errors import DataError, SpecError

MAX_SEED = 2**32 - 2
"""llama.cpp takes the next one, 2^32 - 1, for "draw a seed"."""


@dataclass(frozen=True)
class Completion:
    """An answer.

    `text`: without the stop string, and without a last token that the limit leaves amid a
    character. `ids`: its tokens, with the end token if there was one; after
    a stop string they may say a little more than `text`. None where they were not asked for, and
    where several tokens spell one character in llama.cpp: the wheel does not tell those.
    `num_prompt`, `num_new`: tokens read and generated. `finish`: "length" where the limit cut it.
    `prompt_ms`, `new_ms`: time for reading the prompt and for generating. `doubt`: mean of -log p
    of the answer's tokens, before any grammar; nan where ids were not asked for.
    """

    text: str
    ids: tuple[int, ...] | None
    num_prompt: int
    num_new: int
    finish: Literal["stop", "length"]
    prompt_ms: float
    new_ms: float
    doubt: float = float("nan")


class PromptTooLong(DataError):
    """A prompt and its answer do not fit into the context: a reason to abstain."""


class LanguageSession(Protocol):
    """A causal language model, loaded: ids in, text out; the same request, the same answer."""

    context: int

    @property
    def vocab_size(self) -> int:
        """Ids that the model has."""

    def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        beams: int = 1,
        length_penalty: float = 1.0,
        grammar: str | None = None,
        json_schema: dict[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
        with_ids: bool = True,
        begins_text: bool = False,
    ) -> Completion:
        """Continue `prompt_ids`.

        Args:
            max_new_tokens: at least 1; the end token counts.
            stop: texts that end the answer.
            temperature: 0 takes the likeliest token; above, tokens are drawn, the same for the
                same `seed` (0 to `MAX_SEED`).
            top_p: tokens are drawn from the likeliest ones that together have this probability.
            beams: continuations that are followed at once where nothing is drawn; 1 is greedy.
            length_penalty: the answer of several beams is the one with the highest sum of log p
                divided by its length to this power.
            grammar: GBNF text that the answer must follow. An answer cut by "length" may be a
                beginning of what the grammar allows.
            json_schema: instead of `grammar`; see `json_grammar` for what is supported.
            on_text: called with each piece of text as it appears (of several beams: at the end);
                what it raises ends the answer and is raised here.
            with_ids: give the answer's ids too.
            begins_text: the answer is a text of its own, not the middle of one: the space by which
                a SentencePiece tokenizer begins every text is no part of it.

        Raises:
            PromptTooLong: prompt and `max_new_tokens` exceed the context.
            DataError: no prompt, or ids that the model does not have.
            SpecError: a grammar or schema that cannot be followed, settings out of range, or
                several beams in a runtime that has none.
        """

    def prepare(self, grammar: str) -> None:
        """Raise now what `generate` would raise for a grammar that every answer will follow.

        Raises:
            MissingExtra, SpecError: it cannot be followed here.
        """

    def score(self, ids: Sequence[int]) -> np.ndarray:
        """Log-probability (natural) of each id given those before it; float32 [len(ids) - 1].

        Raises:
            PromptTooLong, DataError: as for `generate`.
        """

    def likeliest(self, ids: Sequence[int], num: int) -> list[dict[int, float]]:
        """Log-probabilities by id of at least the `num` likeliest tokens in place of each id but
        the first, that id itself among them.

        Raises:
            PromptTooLong, DataError: as for `generate`.
        """

    def close(self) -> None:
        """Free the model's memory; the session cannot be used afterwards."""

    def __enter__(self) -> LanguageSession: ...

    def __exit__(self, *error: object) -> None: ...


def maybe_spaced(grammar: str) -> str:
    """The grammar of the same texts, with a space before them or without."""
    rules = "\n" + grammar
    return rules.replace("\nroot ::=", '\nroot ::= " "? whole-text\nwhole-text ::=', 1).lstrip()


def require_prompt(ids: Sequence[int], num_new: int, *, vocab_size: int, context: int) -> None:
    """Refuse a prompt that the model cannot read, or not answer with `num_new` tokens."""
    if not len(ids):
        raise DataError("an empty prompt", fix="begin with the model's first token")
    if min(ids) < 0 or max(ids) >= vocab_size:
        raise DataError(
            "a prompt with ids that the model does not have",
            fix=f"0 to {vocab_size - 1}: the model's own tokenizer",
        )
    if len(ids) + num_new > context:
        raise PromptTooLong(
            f"{len(ids)} tokens of prompt and {num_new} of answer exceed the context",
            fix=f"{context} together",
        )


def require_settings(
    *, max_new_tokens: int, stop: Sequence[str], temperature: float, top_p: float, seed: int,
    beams: int, length_penalty: float,
) -> None:  # fmt: skip
    """Refuse settings of an answer that mean nothing."""
    wrong = {
        "max_new_tokens below 1": max_new_tokens < 1,
        "an empty stop string": not all(stop),
        "a temperature below 0": not 0 <= temperature < float("inf"),
        "a top_p that is not above 0 and at most 1": not 0 < top_p <= 1,
        f"a seed outside 0 to {MAX_SEED}": not 0 <= seed <= MAX_SEED,
        "fewer beams than one": beams < 1,
        "a length penalty that is not finite": not abs(length_penalty) < float("inf"),
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise SpecError(what)
