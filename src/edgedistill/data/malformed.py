"""Rows that cannot be used: all of them collected, none of them lost."""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from edgedistill.core.errors import DataError
from edgedistill.core.files import storage_errors

NUM_LISTED = 20
_PIECE_BYTES = 3 << 18  # a multiple of 3: base64 of the pieces joins to base64 of the whole

Content = Callable[[], Iterable[bytes]]
"""Gives the raw bytes of a row in pieces; may be called more than once."""


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """Where a row stands, why it cannot be used, and its bytes as they were found."""

    file: str
    line: int
    reason: str
    content: Content

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class MalformedRows:
    """Takes malformed rows as they are found, from one file or several.

    A context manager. On leaving it without an error, rows that were added either refuse the
    reading (no `quarantine`: DataError that lists the first 20 and counts all) or are written
    to the `quarantine` file. When it is left with an error, the quarantine stays as it was.

    The quarantine is JSON Lines, one object a row: `file`, `line`, `reason`, and `content`
    (text) or, where the bytes are not UTF-8, `content_base64`. It is written atomically. Rows
    of earlier readings stay in it, since their source may have been mended by then; the same
    row is not written twice. Rows pass through in pieces, so that neither a long row nor many
    rows need memory.

    Raises:
        DataError: there are malformed rows and no quarantine.
        StorageError: the quarantine cannot be written.
    """

    def __init__(self, quarantine: Path | None) -> None:
        self.num_rows = 0
        self.listed: list[str] = []
        self._quarantine = _QuarantineFile(quarantine) if quarantine else None

    def add(self, row: MalformedRow) -> None:
        """Count a row, list it if it is among the first, and set it aside."""
        self.num_rows += 1
        if len(self.listed) < NUM_LISTED:
            self.listed.append(str(row))
        if self._quarantine:
            self._quarantine.add(row)

    def summary(self) -> str:
        """One sentence with the count, then the first rows, one a line."""
        noun = "row" if self.num_rows == 1 else "rows"
        tail = f", the first {len(self.listed)}" if self.num_rows > len(self.listed) else ""
        return "\n  ".join([f"{self.num_rows:,} malformed {noun}{tail}:", *self.listed])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._quarantine:
            self._quarantine.close(keep=kind is None)
        elif kind is None and self.num_rows:
            raise DataError(
                self.summary(),
                fix="mend these rows, or set data.on_malformed to 'quarantine' to go on "
                "without them",
            )


def set_aside(quarantine: Path) -> list[str]:
    """Place and reason of each row that a quarantine holds; none where there is none."""
    if not quarantine.is_file():
        return []
    rows = (json.loads(line) for line in quarantine.read_text(encoding="utf-8").splitlines())
    return [f"{Path(row['file']).name}:{row['line']}: {row['reason']}" for row in rows]


class _QuarantineFile:
    """The quarantine while it grows beside its final place."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise DataError("the quarantine is a folder", where=str(path), fix="name a file")
        self._path = path
        self._growing = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._stream: BinaryIO | None = None
        self._known: set[bytes] = set()

    def add(self, row: MalformedRow) -> None:
        with storage_errors(self._path):
            if self._stream is None:
                self._stream = self._open()
            start = self._stream.tell()
            digest = hashlib.sha256()
            for piece in _record(row):
                digest.update(piece)
                self._stream.write(piece)
            if digest.digest() in self._known:
                self._stream.seek(start)
                self._stream.truncate()
            self._known.add(digest.digest())

    def close(self, *, keep: bool) -> None:
        if self._stream is None:
            return
        try:
            with storage_errors(self._path), self._stream as stream:
                if keep:
                    stream.flush()
                    os.fsync(stream.fileno())
                    self._growing.replace(self._path)
        finally:
            self._growing.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        stream = self._growing.open("w+b")
        if self._path.exists():
            self._copy_earlier_rows(stream)
        return stream

    def _copy_earlier_rows(self, stream: BinaryIO) -> None:
        digest = hashlib.sha256()
        piece = b"\n"
        with self._path.open("rb") as earlier:
            while piece := earlier.readline(_PIECE_BYTES):
                stream.write(piece)
                digest.update(piece)
                if piece.endswith(b"\n"):
                    self._known.add(digest.digest())
                    digest = hashlib.sha256()
        if stream.tell() and not _ends_line(stream):
            stream.write(b"\n")


def _ends_line(stream: BinaryIO) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


def _record(row: MalformedRow) -> Iterator[bytes]:
    """One line of the quarantine, in pieces."""
    head = json.dumps(
        {"file": row.file, "line": row.line, "reason": row.reason}, ensure_ascii=False
    )
    # A file name may hold bytes that are not UTF-8 (surrogates in Python): keep them readable.
    head_bytes = head[:-1].encode(errors="backslashreplace")
    if _is_utf8(row.content()):
        yield head_bytes + b', "content": "'
        decoder = codecs.getincrementaldecoder("utf-8")()
        for piece in row.content():
            yield json.dumps(decoder.decode(piece), ensure_ascii=False)[1:-1].encode()
    else:
        yield head_bytes + b', "content_base64": "'
        for piece in _resized(row.content()):
            yield base64.b64encode(piece)
    yield b'"}\n'


def _is_utf8(pieces: Iterable[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in pieces:
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _resized(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `_PIECE_BYTES`, the last one shorter."""
    held = b""
    for piece in pieces:
        held += piece
        while len(held) >= _PIECE_BYTES:
            yield held[:_PIECE_BYTES]
            held = held[_PIECE_BYTES:]
    yield held
