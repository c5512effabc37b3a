"""Templates: how a conversation becomes one text, and which parts of it are learned.

*Easy* assistant turns carry loss on the response alone, *hard* ones on all their sections, tags
included. System, user and header tokens carry none. Nor does the mark that ends a turn, unless
the encoder is told to (`learn_end`): a model trained from nothing must learn to stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgedistill.core.conversation import Turn, require_order
from edgedistill.tasks.generation.sections import assistant_text


@dataclass(frozen=True)
class Segment:
    """A piece of a rendered conversation. Each is tokenised on its own.

    `learned`: whether its tokens carry loss. `is_markup`: written by the template, so that special
    tokens in it are special; in what people wrote they are plain text. `ends_answer`: markup
    that begins behind an answer; its first special token is the one to stop at.
    """

    text: str
    learned: bool
    is_markup: bool = False
    ends_answer: bool = False


class Template(Protocol):
    """Renders conversations; the pieces of a prompt are the first pieces of the whole."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that a tokenizer must know as one special token each."""

    def is_control(self, token: str) -> bool:
        """Whether an added token of the tokenizer means something in this template."""

    def segments(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        """The pieces of a conversation that ends with an assistant turn."""

    def prompt_segments(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        """The pieces of a prompt; ends where the assistant is to begin."""

    def prompt_text(self, turns: Sequence[Turn]) -> str:
        """The prompt as one text."""


@dataclass(frozen=True)
class TurnTemplate:
    """A template that frames each turn by its role, whatever stands around it.

    `begin` opens the conversation; `system`, `user` and `assistant` are what stands before and
    behind such a turn.
    """

    begin: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    special_tokens: tuple[str, ...]

    def is_control(self, token: str) -> bool:
        """Whether a token is one of `special_tokens`."""
        return token in self.special_tokens

    def segments(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        """See `Template`. Raises DataError: turns out of order, an empty text."""
        require_order(turns, last="assistant")
        return tuple(piece for piece in self._pieces(turns) if piece.text)

    def prompt_segments(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        """See `Template`. Raises DataError: turns out of order, an empty text."""
        require_order(turns, last="user")
        pieces = [*self._pieces(turns), _markup(self.assistant[0])]
        return tuple(piece for piece in pieces if piece.text)

    def prompt_text(self, turns: Sequence[Turn]) -> str:
        """See `Template`."""
        return "".join(piece.text for piece in self.prompt_segments(turns))

    def _pieces(self, turns: Sequence[Turn]) -> Iterator[Segment]:
        yield _markup(self.begin)
        for turn in turns:
            before, behind = getattr(self, turn.role)
            yield _markup(before)
            if turn.role == "assistant":
                yield Segment(assistant_text(turn), learned=True)
                yield Segment(behind, learned=False, is_markup=True, ends_answer=True)
            else:
                yield Segment(turn.content, learned=False)
                yield _markup(behind)


def _markup(text: str) -> Segment:
    return Segment(text, learned=False, is_markup=True)
