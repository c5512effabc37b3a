"""Rows of a file as a model will see them: tokens, and which of them are learned."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from edgedistill.core.conversation import Conversation
from edgedistill.data.conversations import read_conversations
from edgedistill.tasks.generation.encoding import (
    ConversationEncoder,
    missing_special_tokens,
    with_special_tokens,
)
from edgedistill.tasks.generation.template import Template
from edgedistill.tasks.generation.templates import TEMPLATES
from edgedistill.tasks.generation.tokenizer_folder import chat_template_of, open_tokenizer

_WINDOW = 64


@dataclass(frozen=True)
class ShownToken:
    """One token as text; "" where it only begins a character that a later token ends."""

    text: str
    learned: bool


@dataclass(frozen=True)
class ShownRow:
    """One conversation with its tokens."""

    id: str
    is_hard: bool
    tokens: tuple[ShownToken, ...]

    @property
    def num_learned(self) -> int:
        """Tokens that carry loss."""
        return sum(token.learned for token in self.tokens)


@dataclass(frozen=True)
class Showing:
    """Rows of a file under a template.

    `added`: special tokens of the template that the tokenizer lacked and was given to show them.
    """

    template: str
    num_rows: int
    num_hard: int
    added: tuple[str, ...]
    rows: Iterator[ShownRow]


def show_rows(
    file: Path, tokenizer: Path, *, template: str | None, num_rows: int, learn_end: bool = False
) -> Showing:
    """The first rows of a file, tokenised; all rows are read and checked.

    Args:
        file: rows for `read_conversations`.
        tokenizer: folder of the tokenizer.
        template: a name of `TEMPLATES`; None takes the folder's own, or `plain` without one.
        num_rows: rows to show.
        learn_end: whether the end of an answer is learned.

    Raises:
        DataError: the file cannot be used. ModelError: the folder cannot be used.
        SpecError: no such template, or the folder's own is broken.
    """
    raw = open_tokenizer(tokenizer)
    own = chat_template_of(tokenizer) if template is None else None
    name = template or ("the tokenizer's own" if own else "plain")
    chosen: Template = own or TEMPLATES.load(name)
    conversations = read_conversations(file)
    encoder = ConversationEncoder(
        with_special_tokens(raw, chosen), chosen, max_tokens=sys.maxsize, learn_end=learn_end
    )
    return Showing(
        name,
        len(conversations),
        sum(conversation.is_hard for conversation in conversations),
        missing_special_tokens(raw, chosen),
        (_shown(encoder, conversation) for conversation in conversations[:num_rows]),
    )


def _shown(encoder: ConversationEncoder, conversation: Conversation) -> ShownRow:
    encoded = encoder.encode(conversation)
    texts = token_texts(encoder.tokenizer, encoded.ids.tolist())
    tokens = zip(texts, encoded.learned.tolist(), strict=True)
    return ShownRow(
        conversation.id, conversation.is_hard, tuple(ShownToken(t, mark) for t, mark in tokens)
    )


def token_texts(tokenizer: tokenizers.Tokenizer, ids: list[int]) -> list[str]:
    """What each token adds to the decoded text; together they are the text.

    A token's own decoding would not do: it drops leading spaces and cannot show parts of a
    character. Where the decoder changes what it wrote before, the vocabulary's entry stands.
    """
    texts: list[str] = []
    begin, shown = 0, ""
    for place, token_id in enumerate(ids):
        if place - begin >= _WINDOW and texts[-1]:
            # Decoding all anew for every token would take long for long rows. The token before
            # stays in sight: decoders treat a first token in their own way.
            begin = place - 1
            shown = tokenizer.decode(ids[begin:place], skip_special_tokens=False)
        whole = tokenizer.decode(ids[begin : place + 1], skip_special_tokens=False)
        if whole.endswith("\ufffd") and place + 1 < len(ids):  # a character in the making
            texts.append("")
        elif not whole.startswith(shown):
            texts.append(str(tokenizer.id_to_token(token_id)))
            shown = whole
        else:
            texts.append(whole[len(shown) :])
            shown = whole
    return texts
