"""Where in the answers the tokens of a conversation begin, so that two vocabularies can be aligned.

A model says of a token what it holds likely behind all the text before it. Of two tokenizers'
tokens, those that begin at the same character of the same answer are therefore foretold from the
same text, and what two models say there can be compared; of others it cannot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import tokenizers

from edgedistill.core.conversation import Conversation
from edgedistill.tasks.generation.encoding import ConversationEncoder


@dataclass(frozen=True)
class AnswerStarts:
    """Of one conversation: its learned texts, and int64 [n], the character at which each token
    begins, counted over all these texts and one more behind each, for its end.

    -1: a token that is not learned, or begins inside a character.
    """

    texts: tuple[str, ...]
    characters: np.ndarray


class AnswerReader:
    """Tells where the learned tokens of conversations begin, as an encoder makes them."""

    def __init__(self, encoder: ConversationEncoder) -> None:
        self.encoder = encoder
        settings = json.loads(encoder.tokenizer.to_str())
        # Of byte-level tokenizers it would move the beginning of a token behind its blank.
        settings["post_processor"] = None
        self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(settings, ensure_ascii=False))
        self._tokenizer.encode_special_tokens = True

    def starts(self, conversation: Conversation) -> AnswerStarts:
        """Where each token of `encoder.encode(conversation)` begins."""
        texts, found, base = list[str](), list[int](), 0
        for segment in self.encoder.template.segments(conversation.turns):
            if segment.is_markup:
                own = [-1] * len(self.encoder.markup_ids(segment.text))
                if segment.ends_answer and self.encoder.learn_end:
                    own[0] = base - 1
                found += own
            elif segment.learned:
                found += [begin if begin < 0 else base + begin for begin in self._of(segment.text)]
                texts.append(segment.text)
                base += len(segment.text) + 1
            else:
                found += [-1] * len(self.encoder.content_ids(segment.text))
        return AnswerStarts(tuple(texts), np.array(found, dtype=np.int64))

    def _of(self, text: str) -> list[int]:
        """Character at which each token begins; -1 where the one before holds a part of it."""
        found, last, covered = [], -1, 0
        for begin, end in self._tokenizer.encode(text, add_special_tokens=False).offsets:
            # A token may hold a letter and the first byte of the next one.
            is_first = begin > last and begin >= covered
            found.append(begin if is_first else -1)
            last, covered = max(last, begin), max(covered, end)
        return found


def aligned(student: AnswerStarts, teacher: AnswerStarts) -> np.ndarray:
    """For each token of the student's, the teacher's that begins where it does: int64 [n], -1 where
    there is none, or where a template changed an answer."""
    places = np.full(len(student.characters), -1, dtype=np.int64)
    if student.texts == teacher.texts:
        _, ours, theirs = np.intersect1d(
            student.characters, teacher.characters, return_indices=True
        )
        places[ours] = theirs
        places[student.characters < 0] = -1
    return places
