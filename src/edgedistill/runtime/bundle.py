"""A bundle on the disk, folder or archive: opened, checked, written."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgedistill.core.errors import BundleError
from edgedistill.core.files import storage_errors, write_bytes
from edgedistill.runtime import archive
from edgedistill.runtime.manifest import (
    MANIFEST,
    MANIFEST_DIGEST,
    TOKENIZER,
    FileEntry,
    Manifest,
    newer_schema,
)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every byte was read once and agreed with its digest.

    `files`: contents by name, the manifest apart. `unlisted`: names that lie beside them and
    are neither read nor covered by a digest.
    """

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]
    unlisted: tuple[str, ...] = ()

    @property
    def model_bytes(self) -> int:
        """Bytes of model and tokenizer, what a size requirement is judged on."""
        return len(self.files[self.manifest.model_file]) + len(self.files[TOKENIZER])

    @property
    def total_bytes(self) -> int:
        """Bytes of all files on the disk, the manifest included."""
        if self.path.is_file():
            return self.path.stat().st_size
        named = sum(entry.size_bytes for entry in self.manifest.files.values())
        return named + sum((self.path / n).stat().st_size for n in (MANIFEST, MANIFEST_DIGEST))


def open_bundle(path: str | Path) -> Bundle:
    """Read a bundle and check every file against the manifest.

    Raises:
        BundleError: nothing there, damaged, incomplete, or of a newer schema.
    """
    path = Path(path)
    if path.is_dir():
        contents, unlisted = _read_folder(path)
    elif path.is_file():
        contents, unlisted = archive.unpack(_read(path), where=str(path)), ()
    else:
        raise BundleError(
            "no bundle here", where=str(path), fix="the folder or the .edb file of a bundle"
        )
    manifest, files = _require_whole(contents, path)
    extra = set(contents) - set(files) - {MANIFEST, MANIFEST_DIGEST}
    if extra:
        raise BundleError(f"the manifest does not list {sorted(extra)}", where=str(path))
    return Bundle(path, manifest, files, unlisted)


def write_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle folder, whole or not at all, replacing a bundle that stands there.

    Args:
        folder: where to; its parent is made if need be.
        manifest: everything but `files`, which is worked out here.
        files: contents by name: `Manifest.required_files`, `guard.npz` where the guard has arrays.

    Returns:
        The bundle, read back from the disk and checked.
    """
    entries = {
        name: FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        for name, content in files.items()
    }
    described = manifest.with_files(entries).to_bytes()
    everything = {
        **files,
        MANIFEST: described,
        MANIFEST_DIGEST: _digest_line(described),
    }
    _require_whole(everything, folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise BundleError(
            "the folder holds something else", where=str(folder), fix="an empty or new folder"
        )
    _replace_folder(folder, everything)
    return open_bundle(folder)


def write_archive(bundle: Bundle, to: Path) -> Path:
    """Write the one-file form; equal bundles give equal bytes (with the same zlib)."""
    described = bundle.manifest.to_bytes()
    write_bytes(
        to,
        archive.pack(
            {**bundle.files, MANIFEST: described, MANIFEST_DIGEST: _digest_line(described)}
        ),
    )
    return to


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _read_folder(folder: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    # The manifest decides what is read: a stray file, however large, costs nothing.
    contents = {
        name: _read(folder / name)
        for name in (MANIFEST, MANIFEST_DIGEST)
        if (folder / name).is_file()
    }
    manifest = _checked_manifest(contents, folder)
    for name in manifest.files:
        if (folder / name).is_file():
            contents[name] = _read(folder / name)
    return contents, tuple(sorted(p.name for p in folder.iterdir() if p.name not in contents))


def _require_whole(contents: Mapping[str, bytes], path: Path) -> tuple[Manifest, dict[str, bytes]]:
    manifest = _checked_manifest(contents, path)
    names = dict.fromkeys([*manifest.required_files, *manifest.files])
    return manifest, {name: _checked(name, contents, manifest, path) for name in names}


def _checked_manifest(contents: Mapping[str, bytes], path: Path) -> Manifest:
    where = str(path)
    if MANIFEST not in contents:
        raise BundleError(f"{MANIFEST} is missing", where=where, fix="the folder of a bundle")
    described = contents[MANIFEST]
    digest = contents.get(MANIFEST_DIGEST)
    if digest is None and not newer_schema(described):
        raise BundleError(f"{MANIFEST_DIGEST} is missing", where=where, fix="copy it again")
    if digest is not None and digest != _digest_line(described):
        raise BundleError(
            f"{MANIFEST} is damaged: its digest differs", where=where, fix="copy the bundle again"
        )
    return Manifest.from_bytes(described)


def _checked(name: str, contents: Mapping[str, bytes], manifest: Manifest, path: Path) -> bytes:
    entry = manifest.files.get(name)
    if entry is None or name not in contents:
        raise BundleError(f"{name} is missing", where=str(path), fix="copy the bundle again")
    content = contents[name]
    if len(content) != entry.size_bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleError(
            f"{name} is damaged: its digest differs from the manifest's",
            where=str(path),
            fix="copy the bundle again",
        )
    return content


def _digest_line(described: bytes) -> bytes:
    return hashlib.sha256(described).hexdigest().encode() + b"\n"


def _replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    with storage_errors(folder):
        try:
            for name in sorted(files):
                write_bytes(fresh / name, files[name])
            if folder.exists():
                folder.rename(old)
            try:
                fresh.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
