"""Raw rows of JSON Lines, CSV and TSV files, line by line."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgedistill.core.errors import DataError
from edgedistill.data.malformed import Content, MalformedRow

MAX_LINE_BYTES = 1_000_000
_PIECE_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Row:
    """The fields of one row, with its place and raw bytes. Lines count from 1."""

    line: int
    fields: Mapping[str, object]
    content: Content


@dataclass(frozen=True, slots=True)
class _Line:
    """A physical line. `raw` is None where it is longer than MAX_LINE_BYTES."""

    number: int
    raw: bytes | None
    content: Content


def jsonl_rows(path: Path) -> Iterator[Row | MalformedRow]:
    """Rows of a JSON Lines file: one object a line, UTF-8; blank lines are skipped."""
    for line in _lines(path):
        if line.raw is None:
            yield _too_long(path, line)
        elif line.raw.strip():
            try:
                yield Row(line.number, _parse_object(line.raw), line.content)
            except _NotAnObjectError as error:
                yield MalformedRow(str(path), line.number, str(error), line.content)


def delimited_rows(path: Path, delimiter: str) -> Iterator[Row | MalformedRow]:
    """Rows of a CSV or TSV file with a header, quoted as in RFC 4180; `line` is the first line.

    Quoting is strict: a stray quote makes a malformed row, never a silently different text.
    After one, reading goes on at the next line, so that a quote that was never closed does not
    swallow the rows behind it. A field holds up to 131,072 characters.

    Raises:
        DataError: the header cannot be used.
    """
    lines = _Lines(path)
    header: list[str] | None = None
    for first in lines:
        if first.raw is None:
            yield _too_long(path, first)
            continue
        taken = [first]
        try:
            cells = next(csv.reader(_feed(taken, lines), delimiter=delimiter, strict=True))
        except csv.Error as error:
            lines.push_back(taken[1:])
            if header is None:
                raise DataError(f"the header is not readable: {error}", where=str(path)) from error
            yield MalformedRow(
                str(path), first.number, f"not a delimited row: {error}", first.content
            )
            continue
        content = partial(_joined, tuple(taken))
        if not cells:
            continue
        if not _is_utf8(taken):
            if header is None:
                raise DataError("the header is not UTF-8", where=str(path), fix="save as UTF-8")
            yield MalformedRow(str(path), first.number, "not valid UTF-8", content)
        elif header is None:
            header = _checked_header(path, cells)
        elif len(cells) != len(header):
            reason = f"{len(cells)} fields, the header has {len(header)}"
            yield MalformedRow(str(path), first.number, reason, content)
        else:
            yield Row(first.number, dict(zip(header, cells, strict=True)), content)


class _NotAnObjectError(ValueError):
    """Why a line is no JSON object."""


def _parse_object(raw: bytes) -> dict[str, object]:
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_distinct_keys)
    except UnicodeDecodeError as error:
        raise _NotAnObjectError(f"not valid UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise _NotAnObjectError(f"not JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise _NotAnObjectError("not usable JSON: nested too deeply") from error
    except ValueError as error:
        raise _NotAnObjectError(f"not usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise _NotAnObjectError(f"not a JSON object, but {_kind_of(value)}")
    return value


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON readers keep the last of two equal keys in silence: refuse instead."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in value if names.count(name) > 1)
        raise ValueError(f"key {twice!r} stands twice")
    return value


def _kind_of(value: object) -> str:
    if value is None:
        return "null"
    kinds = {list: "a list", str: "a text", bool: "true or false"}
    return kinds.get(type(value), "a number")


def _lines(path: Path) -> Iterator[_Line]:
    """Physical lines without their ends; of a longer line only its place is kept."""
    with path.open("rb") as stream:
        start = stream.read(3)
        if start[:2] in _UTF16_MARKS:
            raise DataError("the file is UTF-16", where=str(path), fix="save it as UTF-8")
        offset = len(_BYTE_ORDER_MARK) if start == _BYTE_ORDER_MARK else 0
        stream.seek(offset)
        number = 0
        while piece := stream.readline(MAX_LINE_BYTES + 2):
            number += 1
            length = len(piece)
            while not piece.endswith(b"\n") and (more := stream.readline(_PIECE_BYTES)):
                length += len(more)
                piece = more
            if length <= MAX_LINE_BYTES + 2 and len(raw := _without_end(piece)) <= MAX_LINE_BYTES:
                yield _Line(number, raw, partial(_whole, raw))
            else:
                yield _Line(number, None, partial(_span, path, offset, length))
            offset += length


def _without_end(raw: bytes) -> bytes:
    return raw.removesuffix(b"\n").removesuffix(b"\r")


def _whole(raw: bytes) -> Iterable[bytes]:
    return (raw,)


def _span(path: Path, offset: int, length: int) -> Iterator[bytes]:
    """Bytes [offset, offset + length) of a file, without the line's end."""
    with path.open("rb") as stream:
        stream.seek(offset)
        while length > 0 and (piece := stream.read(min(length, _PIECE_BYTES))):
            length -= len(piece)
            yield piece if length else _without_end(piece)


def _joined(lines: tuple[_Line, ...]) -> Iterator[bytes]:
    yield b"\n".join(line.raw or b"" for line in lines)


def _too_long(path: Path, line: _Line) -> MalformedRow:
    return MalformedRow(str(path), line.number, "the line is longer than 1 MB", line.content)


class _Lines(Iterator[_Line]):
    """The lines of a file, with a way back: lines that were taken too many come again."""

    def __init__(self, path: Path) -> None:
        self._ahead = _lines(path)
        self._again: deque[_Line] = deque()

    def __next__(self) -> _Line:
        return self._again.popleft() if self._again else next(self._ahead)

    def push_back(self, lines: list[_Line]) -> None:
        """Give these lines, in their order, before all others."""
        self._again.extendleft(reversed(lines))


def _feed(taken: list[_Line], lines: _Lines) -> Iterator[str]:
    """Text of the first line, then of as many as the row needs; they are noted in `taken`."""
    yield _text(taken[0])
    for line in lines:
        if line.raw is None:
            lines.push_back([line])
            return
        taken.append(line)
        yield _text(line)


def _text(line: _Line) -> str:
    # Bytes that are not UTF-8 are never delimiters or quotes: they are found after parsing.
    return (line.raw or b"").decode("utf-8", errors="surrogateescape") + "\n"


def _is_utf8(lines: list[_Line]) -> bool:
    try:
        for line in lines:
            (line.raw or b"").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _checked_header(path: Path, names: list[str]) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"column {twice[0]!r} stands twice in the header",
            where=f"{path}:1",
            fix="give each column its own name",
        )
    return names
