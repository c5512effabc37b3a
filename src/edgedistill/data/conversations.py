"""Read conversations from a file: every row is used, or listed with its place and the reason."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from edgedistill.core.conversation import Conversation, Role, Turn
from edgedistill.core.errors import DataError
from edgedistill.data.fields import UnusableRowError, id_field, parsed_field, text_field
from edgedistill.data.malformed import MalformedRow, MalformedRows
from edgedistill.data.reading import file_rows, refuse_quarantine_in, require_file
from edgedistill.data.text_rows import Row
from edgedistill.data.usable import usable_rows

_MESSAGE_KEYS = ("role", "content", "draft", "thinking")

Fault = Callable[[Conversation], str | None]
"""What is wrong with a conversation for a task; None where nothing is."""


@dataclass(frozen=True)
class ConversationColumns:
    """Names of the columns or keys. A row has either `messages`, or `prompt` and `response`.

    Draft, thinking and metadata may be absent, null or empty. Without `id`, ids are the file's
    name and the line. In CSV, `messages` and `metadata` are JSON texts.
    """

    prompt: str = "prompt"
    response: str = "response"
    draft: str = "draft"
    thinking: str = "thinking"
    metadata: str = "metadata"
    messages: str = "messages"
    id: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are read."""
        names = (self.prompt, self.response, self.draft, self.thinking, self.metadata,
                 self.messages, self.id)  # fmt: skip
        return tuple(dict.fromkeys(name for name in names if name is not None))


@dataclass(frozen=True)
class Preface:
    """What every prompt gets: a system turn where the row has none, words before its question."""

    system: str | None = None
    prompt_prefix: str = ""

    def before(self, turns: list[Turn]) -> tuple[Turn, ...]:
        """The turns with the preface."""
        if self.system is not None and (not turns or turns[0].role != "system"):
            turns = [Turn("system", self.system), *turns]
        first = next((n for n, turn in enumerate(turns) if turn.role == "user"), None)
        if first is not None and self.prompt_prefix:
            asked = replace(turns[first], content=self.prompt_prefix + turns[first].content)
            turns = [*turns[:first], asked, *turns[first + 1 :]]
        return tuple(turns)


def read_conversations(
    path: Path,
    *,
    columns: ConversationColumns = ConversationColumns(),
    preface: Preface = Preface(),
    quarantine: Path | None = None,
    fault: Fault | None = None,
) -> tuple[Conversation, ...]:
    """The conversations of a .jsonl, .csv, .tsv or .parquet file, in their order.

    Texts are taken as they are, neither trimmed nor changed.

    Args:
        path: the file.
        columns: names of its columns.
        preface: what every prompt gets.
        quarantine: where malformed rows are set aside (see `MalformedRows`); None refuses them.
        fault: what else makes a row malformed.

    Raises:
        DataError: no such file, of no known form, empty, without the columns, without one
            usable row, or with malformed rows and no quarantine.
        MissingExtra: a Parquet file, and pyarrow is not installed.
        StorageError: the quarantine cannot be written.
    """
    require_file(path)
    refuse_quarantine_in(quarantine, [path])
    with MalformedRows(quarantine) as malformed:
        return usable_rows(
            _raw_rows(path, columns),
            lambda row: _without_fault(_conversation(row, columns, preface, path.name), fault),
            malformed,
            path,
            require_columns=lambda keys: _require_columns(columns, keys, path),
        )


def _raw_rows(path: Path, columns: ConversationColumns) -> Iterator[Row | MalformedRow]:
    try:
        yield from file_rows(path, columns)
    except UnicodeDecodeError as error:  # of a text within a list, which Arrow does not check
        raise DataError("a text within a list is not valid UTF-8", where=str(path)) from error


def _without_fault(conversation: Conversation, fault: Fault | None) -> Conversation:
    if fault is not None and (problem := fault(conversation)) is not None:
        raise UnusableRowError(problem)
    return conversation


def _conversation(
    row: Row, columns: ConversationColumns, preface: Preface, prefix: str
) -> Conversation:
    identity = id_field(row.fields, columns.id) if columns.id else f"{prefix}:{row.line}"
    if _given(row.fields, columns.messages):
        for name in (columns.prompt, columns.response, columns.draft, columns.thinking):
            if _given(row.fields, name):
                raise UnusableRowError(f"both {columns.messages!r} and {name!r}")
        turns = _turns_of_messages(parsed_field(row.fields, columns.messages), columns.messages)
    else:
        turns = _turns_of_fields(row.fields, columns)
    metadata = _metadata(row.fields, columns.metadata)
    try:
        return Conversation(identity, preface.before(turns), metadata)
    except DataError as error:
        raise UnusableRowError(error.what) from error


def _turns_of_fields(fields: Mapping[str, object], columns: ConversationColumns) -> list[Turn]:
    question = Turn("user", text_field(fields, columns.prompt))
    draft, thinking = (_section(fields, name) for name in (columns.draft, columns.thinking))
    written = columns.draft if draft is not None else columns.thinking
    is_hard = draft is not None or thinking is not None
    if is_hard and not _given(fields, columns.response):
        raise UnusableRowError(f"{written!r} without a {columns.response!r}")
    return [question, Turn("assistant", text_field(fields, columns.response), draft, thinking)]


def _turns_of_messages(messages: object, column: str) -> list[Turn]:
    if not isinstance(messages, list) or not messages:
        raise UnusableRowError(f"{column!r} is not a list of messages")
    turns = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise UnusableRowError(f"message {number} is not an object")
        try:
            turns.append(_turn(message))
        except UnusableRowError as error:
            raise UnusableRowError(f"message {number}: {error}") from error
    return turns


def _turn(message: Mapping[str, object]) -> Turn:
    # What is not known would be left out of training in silence: tool calls, images, names.
    unknown = [str(key)[:60] for key in message if key not in _MESSAGE_KEYS]
    if unknown:
        raise UnusableRowError(f"{unknown[0]!r} is none of {', '.join(_MESSAGE_KEYS)}")
    role = text_field(message, "role")
    if role not in ("system", "user", "assistant"):
        raise UnusableRowError(f"the role {role[:60]!r} is none of system, user, assistant")
    draft, thinking = _section(message, "draft"), _section(message, "thinking")
    if (draft is not None or thinking is not None) and not _given(message, "content"):
        raise UnusableRowError(f"{'draft' if draft else 'thinking'!r} without a 'content'")
    return Turn(cast(Role, role), text_field(message, "content"), draft, thinking)


def _section(fields: Mapping[str, object], name: str) -> str | None:
    return text_field(fields, name) if _given(fields, name) else None


def _given(fields: Mapping[str, object], name: str) -> bool:
    """Whether a field says anything: forms with columns cannot leave a field out."""
    value = fields.get(name)
    return value is not None and not (isinstance(value, str) and not value.strip())


def _metadata(fields: Mapping[str, object], name: str) -> dict[str, Any]:
    if not _given(fields, name):
        return {}
    value = parsed_field(fields, name)
    if not isinstance(value, dict):
        raise UnusableRowError(f"{name!r} is not an object")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UnusableRowError(f"{name!r} cannot be kept as JSON ({error})") from error
    return value


def _require_columns(columns: ConversationColumns, keys: Sequence[str], path: Path) -> None:
    if not keys or columns.messages in keys:
        return
    for name in (columns.prompt, columns.response, *([columns.id] if columns.id else [])):
        if name not in keys:
            near = difflib.get_close_matches(name, keys, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            shown = ", ".join(repr(key[:60]) for key in keys[:10])
            raise DataError(
                f"no row has the column {name!r}, and none has {columns.messages!r}",
                where=str(path),
                fix=f"{hint}the columns are {shown}",
            )
