"""The chat template that a tokenizer brings along: Jinja, rendered in a sandbox.

Which parts are learned is found by rendering. Every text is first replaced by a mark of its own,
which shows where the template puts it; the prompt's rendering must then be the beginning of the
whole's, and what stands behind it is the answer. The rendering of the texts themselves must
agree with that picture: a template that looks into the texts or rewrites them is refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgedistill.core.conversation import Turn, require_order
from edgedistill.core.errors import MissingExtra, SpecError
from edgedistill.tasks.generation.sections import assistant_text
from edgedistill.tasks.generation.template import Segment

_WHERE = "the tokenizer's chat template"
_FIX = "mend it, or name one of the templates that come with the product"

# Templates that write today's date would ask the model another question every day.
_FIXED_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}{{ '' }}"


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's Jinja template as a `Template`; made by `from_tokenizer`.

    `variables`: special tokens by the names that templates know them by (`bos_token` …).
    """

    source: str
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)
    special_tokens: tuple[str, ...] = ()

    @property
    def jinja(self) -> str:
        """What renders as it does, the date it was trained with included."""
        return _FIXED_DATE + self.source if "strftime_now" in self.source else self.source

    def is_control(self, token: str) -> bool:
        """Whether the template writes this added token."""
        written = token in self.source or token in self.variables.values()
        return bool(token.strip()) and written

    def segments(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        """See `Template`.

        Raises:
            DataError: turns out of order, an empty text.
            SpecError: the template fails, refuses these turns, drops or rewrites a text, or
                renders the prompt otherwise than the beginning of the whole.
        """
        require_order(turns, last="assistant")
        return self._pieces(turns, is_prompt=False)

    def prompt_segments(self, turns: Sequence[Turn]) -> tuple[Segment, ...]:
        """See `Template`; raises what `segments` raises."""
        require_order(turns, last="user")
        return self._pieces(turns, is_prompt=True)

    def prompt_text(self, turns: Sequence[Turn]) -> str:
        """See `Template`; raises what `segments` raises."""
        return "".join(piece.text for piece in self.prompt_segments(turns))

    def _pieces(self, turns: Sequence[Turn], *, is_prompt: bool) -> tuple[Segment, ...]:
        texts = [assistant_text(t) if t.role == "assistant" else t.content for t in turns]
        marks = _marks(texts, self.source)
        picture = self._render(turns, marks, is_prompt=is_prompt)
        places = _places(picture, marks, turns)
        texts = _as_rendered(
            picture, marks, turns, texts, self._render(turns, texts, is_prompt=is_prompt)
        )
        pieces: list[Segment] = []
        end, answered = 0, False
        for index in sorted(places, key=places.__getitem__):
            is_answer = turns[index].role == "assistant"
            begin = places[index]
            if is_answer:
                prompt = self._render(turns[:index], marks, is_prompt=True)
                begin = _end_of_prompt(prompt, picture, earliest=end, latest=begin)
            pieces += [
                Segment(picture[end:begin], False, is_markup=True, ends_answer=answered),
                # What a template writes between prompt and answer has to be written by the model.
                Segment(picture[begin : places[index]], True, is_markup=True),
                Segment(texts[index], learned=is_answer),
            ]
            end, answered = places[index] + len(marks[index]), is_answer
        pieces.append(Segment(picture[end:], False, is_markup=True, ends_answer=answered))
        return tuple(piece for piece in pieces if piece.text)

    def _render(self, turns: Sequence[Turn], texts: Sequence[str], *, is_prompt: bool) -> str:
        messages = [
            {"role": turn.role, "content": text} for turn, text in zip(turns, texts, strict=False)
        ]
        return _rendered(self.source, messages, self.variables, is_prompt=is_prompt)


def from_tokenizer(
    chat_template: str, *, variables: Mapping[str, str] | None = None
) -> ChatTemplate:
    """The template of a tokenizer, tried on a short conversation.

    Args:
        chat_template: Jinja source, as in `tokenizer_config.json` or `chat_template.jinja`.
        variables: special tokens by name (`bos_token`, `eos_token` …), as the tokenizer has them.

    Raises:
        SpecError: the template is broken, or masks cannot be found with it.
        MissingExtra: transformers is not installed.
    """
    template = ChatTemplate(chat_template, dict(variables or {}))
    template.segments((Turn("user", "question"), Turn("assistant", "answer")))
    return template


def _rendered(
    source: str, messages: list[dict[str, str]], variables: Mapping[str, str], *, is_prompt: bool
) -> str:
    try:
        from transformers.utils import chat_template_utils
    except ImportError as error:
        raise MissingExtra("rendering a tokenizer's chat template", "train") from error
    render: Any = chat_template_utils.render_jinja_template
    try:
        texts, _ = render(
            [messages],
            chat_template=_FIXED_DATE + source,
            add_generation_prompt=is_prompt,
            **variables,
        )
    except Exception as error:  # whatever the expressions of a template run into
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise SpecError(f"it cannot be rendered ({reason})", where=_WHERE, fix=_FIX) from error
    return str(texts[0])


def _marks(texts: Sequence[str], source: str) -> list[str]:
    """Texts of private-use characters, one for each turn, that stand nowhere else."""
    # Closed by a character that opens none, so that no mark is the beginning of another.
    taken = "".join(texts) + source
    nonce = next(n for n in itertools.count() if f"\ue000{n}\ue001" not in taken)
    return [f"\ue000{nonce}\ue001{index}\ue002" for index in range(len(texts))]


def _places(picture: str, marks: Sequence[str], turns: Sequence[Turn]) -> dict[int, int]:
    """Where each turn's mark stands; the answers in their order."""
    for mark, turn in zip(marks, turns, strict=True):
        if (times := picture.count(mark)) != 1:
            what = f"drops a {turn.role} turn" if not times else f"writes a {turn.role} turn twice"
            raise SpecError(f"it {what}", where=_WHERE, fix=_FIX)
    places = {index: picture.index(mark) for index, mark in enumerate(marks)}
    spoken = [places[index] for index, turn in enumerate(turns) if turn.role != "system"]
    if spoken != sorted(spoken):
        raise SpecError("it changes the order of the turns", where=_WHERE, fix=_FIX)
    return places


def _as_rendered(
    picture: str, marks: Sequence[str], turns: Sequence[Turn], texts: Sequence[str], rendered: str
) -> list[str]:
    """The texts as the template writes them: as they are, or trimmed for some of the roles."""
    roles = sorted({turn.role for turn in turns})
    index_of = {mark: index for index, mark in enumerate(marks)}
    parts = re.split(f"({'|'.join(map(re.escape, marks))})", picture)
    for choice in itertools.product((False, True), repeat=len(roles)):
        is_trimmed = dict(zip(roles, choice, strict=True))
        written = [
            text.strip() if is_trimmed[turn.role] else text
            for text, turn in zip(texts, turns, strict=True)
        ]
        filled = [written[index_of[part]] if part in index_of else part for part in parts]
        if "".join(filled) == rendered:
            return written
    raise SpecError("it rewrites what people wrote", where=_WHERE, fix=_FIX)


def _end_of_prompt(prompt: str, picture: str, *, earliest: int, latest: int) -> int:
    if picture.startswith(prompt) and earliest <= len(prompt) <= latest:
        return len(prompt)
    raise SpecError(
        "the prompt rendered alone is not the beginning of the whole conversation, so that it "
        "cannot be told what the model has to write",
        where=_WHERE,
        fix="use a template that writes a turn alike whether it is the last one or not",
    )
