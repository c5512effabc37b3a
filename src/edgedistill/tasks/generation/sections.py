"""The sections of an assistant's answer: a hard one shows its draft and its thinking."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgedistill.core.conversation import Turn
from edgedistill.core.errors import DataError

_WHOLE = re.compile(
    r"(?:<draft>(?P<draft>.*?)</draft>\s*)?"
    r"(?:<thinking>(?P<thinking>.*?)</thinking>\s*)?"
    r"<response>(?P<response>.*)</response>",
    re.DOTALL,
)
_BEGUN = re.compile(r"\s*<(?:draft|thinking|response)>")


@dataclass(frozen=True)
class Sections:
    """An answer in its parts; a part that was not written is None.

    `response` is None where the sections were begun and the answer never came.
    """

    response: str | None
    draft: str | None = None
    thinking: str | None = None


def assistant_text(turn: Turn) -> str:
    """What the assistant writes: a bare response, or tagged sections where it drafts or thinks.

    Raises:
        DataError: no response, or a text that holds the tags in such a way that its sections
            could not be read back.
    """
    if not turn.content.strip():
        raise DataError("an assistant turn without a response", fix="leave the row out")
    if not turn.is_hard:
        text = turn.content
    else:
        parts = (("draft", turn.draft), ("thinking", turn.thinking), ("response", turn.content))
        text = "".join(f"<{tag}>{part}</{tag}>" for tag, part in parts if part is not None)
    if read_sections(text) != Sections(turn.content, turn.draft, turn.thinking):
        raise DataError(
            "the answer holds a tag of its own sections (<draft>, <thinking>, <response>)",
            fix="take the tags out: sections are given as fields of the row",
        )
    return text


def read_sections(text: str) -> Sections:
    """The sections of a generated answer; a text without them is all response."""
    bare = text.strip()
    # Without its end there is nothing to find, and a search that fails takes long.
    if bare.endswith("</response>") and (found := _WHOLE.fullmatch(bare)) is not None:
        return Sections(found["response"], found["draft"], found["thinking"])
    if _BEGUN.match(text):
        return Sections(None)
    return Sections(text)
