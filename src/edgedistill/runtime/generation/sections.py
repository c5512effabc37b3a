"""The sections of a generated answer: a hard one has its draft and its thinking before it."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


def read_sections(text: str) -> Sections:
    """The sections of a generated answer; a text without them is all response."""
    bare = text.strip()
    # Without its end there is nothing to find, and a search that fails takes long.
    if bare.endswith("</response>") and (found := _WHOLE.fullmatch(bare)) is not None:
        return Sections(found["response"], found["draft"], found["thinking"])
    if _BEGUN.match(text):
        return Sections(None)
    return Sections(text)
