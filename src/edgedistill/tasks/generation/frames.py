"""A template as token ids around what each role says: all that a bundle needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import SpecError
from edgedistill.runtime.generation.settings import ROLES, Frame, GenerationSettings
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.sections import spoken
from edgedistill.tasks.generation.template import TurnTemplate

Ids = tuple[int, ...]
_WHERE = "the tokenizer's chat template"
_FIX = "name one of the templates that come with the product, where the vocabulary has its marks"
# The spaces show whether a template drops them.
_SYSTEM, _ASKED, _ANSWER = (
    Turn("system", " rules "), Turn("user", " question "), Turn("assistant", " answer "),
)  # fmt: skip
_TALK = (_ASKED, _ANSWER, _ASKED, _ANSWER)


@dataclass(frozen=True)
class Frames:
    """Ids before everything, around the turns of each role, before an answer, and at its end."""

    start: Ids
    roles: Mapping[str, Frame]
    answer: Ids
    end: int

    def settings(
        self,
        *,
        context: int,
        max_new_tokens: int,
        schema: Any = None,
        sections: bool = False,
        beams: int = 1,
        length_penalty: float = 1.0,
    ) -> GenerationSettings:
        """The settings of a bundle that asks in this way."""
        return GenerationSettings(
            frames=self.roles, start=self.start, answer=self.answer, end=(self.end,),
            context=context, max_new_tokens=max_new_tokens, schema=schema, sections=sections,
            beams=beams, length_penalty=length_penalty,
        )  # fmt: skip


def frames_of(encoder: ConversationEncoder) -> Frames:
    """What the encoder's template writes; of a tokenizer's own, found by looking at short talks.

    One that treats a system turn in a way of its own (writes one where there is none, folds it
    into the question) gets no frame for that role: its conversations must have none.

    Raises:
        SpecError: it does not frame turns alike wherever they stand, or has the model write
            something of its own before every answer.
    """
    end, template = encoder.end_id(), encoder.template
    if isinstance(template, TurnTemplate):
        roles = {}
        for role in ROLES:
            before, after = (tuple(encoder.markup_ids(text)) for text in getattr(template, role))
            roles[role] = Frame(before, after)
        return Frames(
            tuple(encoder.markup_ids(template.begin)), roles, roles["assistant"].before, end
        )
    found = _found(encoder, end)
    for turns in (_TALK[:1], _TALK[:3], (*_TALK, _ASKED), (_SYSTEM, *_TALK[:3])):
        if turns[0].role in found.roles and not _asks_alike(encoder, found, turns):
            raise SpecError("it does not frame every turn alike", where=_WHERE, fix=_FIX)
    return found


def require_frames(frames: Frames, rows: Sequence[Conversation]) -> None:
    """Refuse rows with turns that a bundle could not frame.

    Raises:
        SpecError: there is one.
    """
    for row in rows:
        if row.turns[0].role not in frames.roles:
            raise SpecError(
                f"it has no frame for a {row.turns[0].role} turn, which row {row.id} begins with",
                where=_WHERE,
                fix=f"{_FIX}; or rows without such turns",
            )


def _found(encoder: ConversationEncoder, end: int) -> Frames:
    talk, trimmed = _gaps(encoder, _TALK)
    asked, _ = _gaps(encoder, _TALK[:1])
    start, answer, behind = talk[0], asked[1], talk[2]
    if answer != talk[1]:
        raise SpecError(
            "it has the model write something of its own before every answer",
            where=_WHERE,
            fix=_FIX,
        )
    # What stands between two turns is one piece here; where it is cut makes no difference.
    roles = {
        "user": Frame((), (), trimmed[0]),
        "assistant": Frame(answer, behind, trimmed[1]),
    }
    whole = Frames(start, roles, answer, end)
    try:
        ruled, is_trimmed = _gaps(encoder, (_SYSTEM, *_TALK[:2]))
    except SpecError:
        return whole
    common = next((n for n, (a, b) in enumerate(zip(start, ruled[0], strict=False)) if a != b),
                  min(len(start), len(ruled[0])))  # fmt: skip
    before = start[common:]
    if not (_ends_with(ruled[1], before) and _ends_with(behind, before)):
        return whole
    cut = len(before)
    return Frames(
        start[:common],
        {
            "system": Frame(ruled[0][common:], ruled[1][: len(ruled[1]) - cut], is_trimmed[0]),
            "user": Frame(before, (), trimmed[0]),
            "assistant": Frame(answer, behind[: len(behind) - cut], trimmed[1]),
        },
        answer,
        end,
    )


def _gaps(encoder: ConversationEncoder, turns: Sequence[Turn]) -> tuple[list[Ids], list[bool]]:
    """Ids before each turn's text and behind the last; whether each text is trimmed.

    Raises:
        SpecError: the template refuses the turns, or changes their order.
    """
    template = encoder.template
    is_prompt = turns[-1].role == "user"
    pieces = template.prompt_segments(turns) if is_prompt else template.segments(turns)
    gaps: list[list[int]] = [[]]
    texts: list[str] = []
    for piece in pieces:
        if piece.is_markup:
            gaps[-1] += encoder.markup_ids(piece.text)
        else:
            texts.append(piece.text)
            gaps.append([])
    if [text.strip() for text in texts] != [turn.content.strip() for turn in turns]:
        raise SpecError("it changes the order of the turns", where=_WHERE, fix=_FIX)
    trimmed = [text != turn.content for text, turn in zip(texts, turns, strict=True)]
    return [tuple(gap) for gap in gaps], trimmed


def _asks_alike(encoder: ConversationEncoder, frames: Frames, turns: Sequence[Turn]) -> bool:
    settings = frames.settings(context=2, max_new_tokens=1)
    asked = settings.prompt_ids([(t.role, spoken(t)) for t in turns], encoder.content_ids)
    due: list[int] = []
    for piece in encoder.template.prompt_segments(turns):
        ids = encoder.markup_ids if piece.is_markup else encoder.content_ids
        due += ids(piece.text)
    return asked == due


def _ends_with(ids: Ids, end: Ids) -> bool:
    return not end or ids[-len(end) :] == end
