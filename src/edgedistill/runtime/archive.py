"""The one-file form of a bundle: a zip of repeatable bytes, sealed with its own digest."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping

from edgedistill.core.errors import BundleError

SUFFIX = ".edb"
MAX_MEMBER_BYTES = 4 << 30
"""No member may unpack to more; stops a zip bomb before it fills the memory."""

_SEAL = re.compile(rb"sha256:[0-9a-f]{64}\Z")
_SEAL_BYTES = len("sha256:") + 64
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive of `files`: sorted names, fixed dates, members deflated where that pays.

    The comment that ends a zip file holds the SHA-256 of everything before it, so that a change
    of any byte is found, also in the parts of a zip file that no checksum covers.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.comment = b"sha256:" + b"0" * 64
        for name in sorted(files):
            member = zipfile.ZipInfo(name, date_time=_EPOCH)
            member.external_attr = 0o644 << 16
            member.create_system = 3
            stored = name.endswith((".gz", ".npz"))
            member.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(member, files[name], compresslevel=9)
    content = stream.getvalue()[:-_SEAL_BYTES]
    return content + _seal(content)


def unpack(content: bytes, *, where: str) -> dict[str, bytes]:
    """The files of an archive by name; raises BundleError for a damaged or a foreign one."""
    sealed, seal = content[:-_SEAL_BYTES], content[-_SEAL_BYTES:]
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise BundleError(
            "not a bundle archive", where=where, fix="an .edb file, or the folder of a bundle"
        )
    if not _SEAL.match(seal) or _seal(sealed) != seal:
        raise BundleError(
            "the archive is damaged: its digest differs", where=where, fix="copy it again"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _require_safe(members, where)
            return {member.filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise BundleError(f"the archive is damaged: {error}", where=where) from error


def _seal(content: bytes) -> bytes:
    return b"sha256:" + hashlib.sha256(content).hexdigest().encode()


def _require_safe(members: list[zipfile.ZipInfo], where: str) -> None:
    names = [member.orig_filename for member in members]
    for name in names:
        if name in ("", ".", "..") or any(mark in name for mark in "/\\:\0"):
            raise BundleError(
                f"the archive holds {name!r}, a name that leads out of it",
                where=where,
                fix="do not use it: it was not made by edgedistill",
            )
    if len(set(names)) != len(names):
        raise BundleError("the archive holds a name twice", where=where)
    if any(member.file_size > MAX_MEMBER_BYTES for member in members):
        raise BundleError("a member of the archive is too large to unpack", where=where)
