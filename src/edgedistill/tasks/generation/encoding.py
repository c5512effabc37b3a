"""Conversations as token ids, with a mask of the tokens that carry loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import DataError, SpecError
from edgedistill.tasks.generation.template import Segment, Template


@dataclass(frozen=True)
class EncodedConversation:
    """Token ids int32 [n] of a conversation, and bool [n] whether each carries loss."""

    ids: np.ndarray
    learned: np.ndarray


class ConversationEncoder:
    """Encodes conversations for training, and prompts for generation, in one and the same way.

    Every segment is tokenised on its own: the ids of a prompt are the first ids of the whole, so
    a model is asked with what it was trained on. Special tokens come from the template alone; the
    same characters in what people wrote become plain text.

    Args:
        tokenizer: holds the template's special tokens (`with_special_tokens` adds them).
        template: one of `TEMPLATES`, or `from_tokenizer(…)`.
        max_tokens: longer conversations and prompts are refused, never cut.
        learn_end: whether the token that ends an answer carries loss. A model trained from
            nothing never learns to stop without.

    Raises:
        SpecError: the tokenizer lacks special tokens of the template.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        template: Template,
        *,
        max_tokens: int,
        learn_end: bool = False,
    ) -> None:
        self.template = template
        self.max_tokens = max_tokens
        self.learn_end = learn_end
        settings = json.loads(tokenizer.to_str())
        _require_special(settings, template)
        self._control_ids = _protect(settings, template)
        self.tokenizer = _reader(settings)
        self._plain = _reader(settings)
        self._plain.encode_special_tokens = True
        self._markup_ids: dict[str, list[int]] = {}

    def encode(self, conversation: Conversation) -> EncodedConversation:
        """Ids and mask of a whole conversation.

        Raises:
            DataError: too long, or a text that the tokenizer cannot take; names the row's id.
            SpecError: the tokenizer's own chat template cannot render it.
        """
        try:
            segments = self.template.segments(conversation.turns)
            if self.learn_end and not segments[-1].ends_answer:
                raise _no_end()
            return self._encode(segments)
        except DataError as error:
            raise DataError(error.what, where=conversation.id, fix=error.fix) from error

    def encode_prompt(self, turns: Sequence[Turn]) -> np.ndarray:
        """Ids int32 [n] of a prompt that ends where the assistant is to begin.

        Raises:
            DataError: turns out of order, too long, or a text that the tokenizer cannot take.
            SpecError: the tokenizer's own chat template cannot render it.
        """
        return self._encode(self.template.prompt_segments(turns)).ids

    def _encode(self, segments: Sequence[Segment]) -> EncodedConversation:
        ids: list[int] = []
        learned: list[bool] = []
        for segment in segments:
            own = (
                self.markup_ids(segment.text)
                if segment.is_markup
                else self.content_ids(segment.text)
            )
            ids += own
            mask = [segment.learned] * len(own)
            if self.learn_end and segment.ends_answer:
                mask = self._up_to_control(own)
            learned += mask
        if len(ids) > self.max_tokens:
            raise DataError(
                f"{len(ids):,} tokens, at most {self.max_tokens:,} may be",
                fix="shorten the row, or raise max_tokens",
            )
        return EncodedConversation(np.array(ids, dtype=np.int32), np.array(learned, dtype=np.bool_))

    def markup_ids(self, text: str) -> list[int]:
        """Ids of a piece of the template, its marks as special tokens."""
        if text not in self._markup_ids:
            found = self.tokenizer.encode(text, add_special_tokens=False).ids
            self._markup_ids[text] = found
        return self._markup_ids[text]

    def content_ids(self, text: str) -> list[int]:
        """Ids of what people wrote: marks in it are plain text.

        Raises:
            DataError: the tokenizer cannot take the text.
        """
        try:
            ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        except TypeError as error:  # what tokenizers makes of half a surrogate pair
            raise DataError("a text holds half a surrogate pair, which no text may") from error
        if not self._control_ids.isdisjoint(ids):
            token = self.tokenizer.id_to_token(next(i for i in ids if i in self._control_ids))
            raise DataError(
                f"a text holds {token!r}, which this tokenizer cannot write as plain text",
                fix="leave the row out, or use a tokenizer that splits texts into bytes",
            )
        if not ids:
            raise DataError(
                "a text becomes no token at all",
                fix="leave the row out, or use a tokenizer that knows every byte",
            )
        return ids

    def end_id(self) -> int:
        """The special token at which an answer ends.

        Raises:
            SpecError: there is none.
        """
        talk = (Turn("user", "question"), Turn("assistant", "answer"))
        behind = [piece for piece in self.template.segments(talk) if piece.ends_answer]
        ids = self.markup_ids(behind[0].text) if behind else []
        for i in ids:
            if i in self._control_ids:
                return i
        raise _no_end()

    def mark_ids(self) -> tuple[int, ...]:
        """The special tokens that the template writes around turns."""
        talk = [Turn("user", "question"), Turn("assistant", "answer")] * 2
        pieces = [piece for piece in self.template.segments(talk) if piece.is_markup]
        written = {i for piece in pieces for i in self.markup_ids(piece.text)}
        return tuple(sorted(written & self._control_ids))

    def _up_to_control(self, ids: Sequence[int]) -> list[bool]:
        """The mask of what stands behind an answer: all through the token to stop at."""
        end = next((n for n, i in enumerate(ids) if i in self._control_ids), None)
        if end is None:
            raise _no_end()
        return [n <= end for n in range(len(ids))]


def _no_end() -> SpecError:
    return SpecError(
        "no special token stands behind an answer, so that nothing tells where it ends",
        where="the chat template",
        fix="use another template, or learn_end: false",
    )


def with_special_tokens(
    tokenizer: tokenizers.Tokenizer, template: Template
) -> tokenizers.Tokenizer:
    """A copy that knows the template's special tokens; those it lacks get the next free ids."""
    copy = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    copy.add_special_tokens(list(template.special_tokens))
    return copy


def missing_special_tokens(tokenizer: tokenizers.Tokenizer, template: Template) -> tuple[str, ...]:
    """The template's special tokens that a tokenizer does not read as one token each."""
    return _missing(json.loads(tokenizer.to_str()), template)


def _missing(settings: dict[str, Any], template: Template) -> tuple[str, ...]:
    added = {token["content"] for token in settings["added_tokens"]}
    return tuple(token for token in template.special_tokens if token not in added)


def _require_special(settings: dict[str, Any], template: Template) -> None:
    if missing := _missing(settings, template):
        raise SpecError(
            f"the tokenizer lacks special tokens of the chat template: {', '.join(missing)}",
            fix="add them to the tokenizer, or use the template that belongs to it",
        )


def _protect(settings: dict[str, Any], template: Template) -> frozenset[int]:
    """Make the template's tokens special, and name all ids that no written text may become."""
    model = settings["model"]
    unknown = (model.get("unk_token"), model.get("unk_id"))
    control = []
    for token in settings["added_tokens"]:
        # Only special tokens can be kept from matching in what people wrote.
        token["special"] = token["special"] or template.is_control(token["content"])
        if token["special"] and token["content"] != unknown[0] and token["id"] != unknown[1]:
            control.append(token["id"])
    return frozenset(control)


def _reader(settings: dict[str, Any]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(settings, ensure_ascii=False))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
