"""What an assistant writes: a bare response, or its draft and thinking in sections before it."""

from __future__ import annotations

from edgedistill.core.conversation import Turn
from edgedistill.core.errors import DataError
from edgedistill.runtime.generation.sections import Sections, read_sections


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


def spoken(turn: Turn) -> str:
    """What stands in a turn, whoever speaks: an assistant's with its sections."""
    return assistant_text(turn) if turn.role == "assistant" else turn.content
