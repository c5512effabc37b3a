"""Conversations: what a generation task learns from and is asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgedistill.core.errors import DataError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """One message. `draft` and `thinking` are what an assistant wrote before its `content`."""

    role: Role
    content: str
    draft: str | None = None
    thinking: str | None = None

    @property
    def is_hard(self) -> bool:
        """Whether the answer was reasoned out: it has a draft, a thinking, or both."""
        return self.draft is not None or self.thinking is not None


@dataclass(frozen=True)
class Conversation:
    """A whole conversation; the last turn is the assistant's.

    A system turn may come first, then user and assistant take turns. `metadata` is what the
    row says about itself (difficulty, domain, teacher …), as JSON values.

    Raises:
        DataError: the turns are out of order, a text is empty, or a draft or thinking stands
            where no assistant speaks.
    """

    id: str
    turns: tuple[Turn, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        require_order(self.turns, last="assistant", where=self.id)

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """All turns before the last assistant turn."""
        return self.turns[:-1]

    @property
    def response(self) -> str:
        """What the last assistant turn answers, without draft and thinking."""
        return self.turns[-1].content

    @property
    def is_hard(self) -> bool:
        """Whether an assistant turn has a draft or a thinking."""
        return any(turn.is_hard for turn in self.turns)


def require_order(
    turns: Sequence[Turn], *, last: Literal["user", "assistant"], where: str | None = None
) -> None:
    """Refuse turns that are no conversation which ends with a turn of `last`.

    Raises:
        DataError: turns out of order, an empty text, or sections outside an assistant turn.
    """
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    for number, turn in enumerate(spoken):
        due = "assistant" if number % 2 else "user"
        if turn.role != due:
            place = len(turns) - len(spoken) + number + 1
            raise DataError(
                f"turn {place} is of the role {turn.role!r}, due is {due!r}",
                where=where,
                fix="perhaps a system turn, then user and assistant in turn",
            )
    if not spoken or spoken[-1].role != last:
        raise DataError(f"the last turn is not the {last}'s", where=where)
    for number, turn in enumerate(turns, 1):
        _require_texts(turn, number, where)


def _require_texts(turn: Turn, number: int, where: str | None) -> None:
    sections = [name for name in ("draft", "thinking") if getattr(turn, name) is not None]
    if sections and turn.role != "assistant":
        raise DataError(f"turn {number}: a {turn.role} turn has a {sections[0]}", where=where)
    if not turn.content.strip():
        what = "the response" if turn.role == "assistant" else f"the {turn.role}'s text"
        behind = f", though there is a {sections[0]}" if sections else ""
        raise DataError(f"turn {number}: {what} is empty{behind}", where=where)
    for name in sections:
        if not getattr(turn, name).strip():
            raise DataError(
                f"turn {number}: the {name} is empty", where=where, fix="leave it out (None)"
            )
