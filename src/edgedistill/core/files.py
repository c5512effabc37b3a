"""Files written whole or not at all, hashes, locks, and room on the disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgedistill.core.errors import RunLocked, StorageError


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """Hex digest of a JSON-serialisable value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """Write atomically: a reader sees the old file or the new one, never a half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented UTF-8 JSON atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn refusals to write into a StorageError, whichever library met them."""
    try:
        yield
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        what, fix = refusal
        raise StorageError(what, where=str(path), fix=fix) from error


def _refusal(error: Exception) -> tuple[str, str] | None:
    """What the operating system refused, and what would help; None for every other error."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None:
        number = _quoted_errno(str(error))
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "no room left on the disk", "free some space and run again"
    if number == errno.EFBIG:
        return "a file grew larger than this system allows", "raise the limit (ulimit -f)"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "cannot write here", "choose a folder you may write to"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return "a file stands where a folder is needed", "choose another folder"
    return None


def _quoted_errno(message: str) -> int | None:
    """What a library says that does not keep the errno."""
    if " requested and " in message and message.endswith(" written"):  # numpy counts items
        return errno.ENOSPC
    told = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
    # safetensors; shutil, where several files of a folder failed
    return next(
        (n for n in told if f"(os error {n})" in message or f"[Errno {n}]" in message), None
    )


def free_bytes(folder: Path) -> int:
    """Free bytes of the file system that `folder` is on, or would be."""
    existing = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    return shutil.disk_usage(existing).free


def require_room(folder: Path, size_bytes: int) -> None:
    """Raise StorageError unless the file system of `folder` has `size_bytes` free."""
    free = free_bytes(folder)
    if free < size_bytes:
        raise StorageError(
            f"{size_bytes / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free",
            where=str(folder),
            fix="free some space or choose another folder",
        )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; a second holder gets RunLocked at once.

    The kernel drops the lock when the process dies, however it dies.
    """
    lock = folder / ".lock"
    with storage_errors(lock):
        folder.mkdir(parents=True, exist_ok=True)
        stream = lock.open("a+")
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunLocked(
                "another run is working in this folder",
                where=str(folder),
                fix="wait for it, or give this run another --runs-dir",
            ) from error
        yield
    finally:
        stream.close()
