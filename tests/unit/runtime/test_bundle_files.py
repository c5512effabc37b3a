"""Bundles on the disk: whole, damaged, foreign, newer."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edgedistill.core.errors import BundleError
from edgedistill.runtime import archive
from edgedistill.runtime.bundle import Bundle, open_bundle, write_archive, write_bundle
from edgedistill.runtime.loading import load
from edgedistill.runtime.manifest import (
    GOLDEN,
    MANIFEST,
    MANIFEST_DIGEST,
    MODEL,
    TOKENIZER,
)
from small_bundle import TEXTS, make_bundle, make_files, make_manifest

REQUIRED_FILES = make_manifest().required_files
ALL_FILES = (*REQUIRED_FILES, MANIFEST, MANIFEST_DIGEST)


def rewrite_manifest(folder: Path, **changes: object) -> None:
    values = json.loads((folder / MANIFEST).read_bytes()) | changes
    content = json.dumps(values).encode()
    (folder / MANIFEST).write_bytes(content)
    (folder / MANIFEST_DIGEST).write_text(hashlib.sha256(content).hexdigest() + "\n")


def sealed_zip(members: list[tuple[str, bytes]], path: Path) -> Path:
    """An archive with a valid seal, whatever it holds."""
    with zipfile.ZipFile(path, "w") as made:
        made.comment = b"sha256:" + b"0" * 64
        for name, content in members:
            made.writestr(zipfile.ZipInfo(name), content)
    content = path.read_bytes()[: -len("sha256:") - 64]
    path.write_bytes(content + b"sha256:" + hashlib.sha256(content).hexdigest().encode())
    return path


def test_a_written_bundle_reads_back_as_it_was(bundle: Bundle) -> None:
    again = open_bundle(bundle.path)
    assert again.manifest == bundle.manifest
    assert again.files == bundle.files
    assert set(again.manifest.files) == set(REQUIRED_FILES)
    assert again.model_bytes == sum(len(again.files[name]) for name in (MODEL, TOKENIZER))
    assert again.total_bytes == sum(file.stat().st_size for file in bundle.path.iterdir())


def test_folder_and_archive_answer_alike(bundle: Bundle, tmp_path: Path) -> None:
    packed = write_archive(bundle, tmp_path / "small.edb")
    assert open_bundle(packed).files == bundle.files
    assert open_bundle(packed).manifest == bundle.manifest
    assert load(packed).predict(TEXTS) == load(bundle.path).predict(TEXTS)


def test_equal_bundles_give_equal_bytes(tmp_path: Path) -> None:
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b")
    for name in ALL_FILES:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name
    packed = [write_archive(b, tmp_path / f"{b.path.name}.edb") for b in (first, second)]
    assert packed[0].read_bytes() == packed[1].read_bytes()


@pytest.mark.parametrize("name", ALL_FILES)
def test_one_changed_byte_of_any_file_is_found(bundle: Bundle, name: str) -> None:
    file = bundle.path / name
    whole = file.read_bytes()
    for place in {0, len(whole) // 2, len(whole) - 1}:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BundleError, match=r"damaged|schema") as caught:
            load(bundle.path)
        assert caught.value.exit_code == 6
    file.write_bytes(whole)
    assert load(bundle.path).predict([TEXTS[0]])[0].label == "track"


def test_one_changed_byte_anywhere_in_an_archive_is_found(bundle: Bundle, tmp_path: Path) -> None:
    packed = write_archive(bundle, tmp_path / "small.edb")
    whole = packed.read_bytes()
    places = [*range(0, len(whole), 37), *range(len(whole) - 120, len(whole))]
    for place in places:
        packed.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(BundleError):
            open_bundle(packed)
    assert len(places) > 150


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_a_cut_archive_is_refused(bundle: Bundle, tmp_path: Path, cut: int) -> None:
    packed = write_archive(bundle, tmp_path / "small.edb")
    packed.write_bytes(packed.read_bytes()[:-cut])
    with pytest.raises(BundleError):
        open_bundle(packed)


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_file_is_named(bundle: Bundle, name: str) -> None:
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        open_bundle(bundle.path)


def test_a_newer_schema_says_upgrade(bundle: Bundle) -> None:
    rewrite_manifest(bundle.path, schema_version=2, something_new=True)
    with pytest.raises(BundleError, match="schema 2") as caught:
        load(bundle.path)
    assert "upgrade" in str(caught.value)


def test_a_newer_schema_without_our_digest_still_says_upgrade(bundle: Bundle) -> None:
    rewrite_manifest(bundle.path, schema_version=3)
    (bundle.path / MANIFEST_DIGEST).unlink()
    with pytest.raises(BundleError, match="schema 3"):
        load(bundle.path)


def test_an_unknown_kind_is_refused(bundle: Bundle) -> None:
    rewrite_manifest(bundle.path, kind="telepathy")
    with pytest.raises(BundleError, match="telepathy"):
        load(bundle.path)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["one"]},
        {"labels": None},
        {"batching": "both"},
        {"threads": 0},
        {"input": {}},
        {"files": {"../evil": {"sha256": "", "size_bytes": 0}}},
    ],
)
def test_a_malformed_manifest_is_refused(bundle: Bundle, changes: dict[str, object]) -> None:
    rewrite_manifest(bundle.path, **changes)
    with pytest.raises(BundleError, match="malformed"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "..\\evil", "C:evil", ".."])
def test_an_archive_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    packed = sealed_zip([(name, b"x")], tmp_path / "evil.edb")
    with pytest.raises(BundleError, match="leads out"):
        open_bundle(packed)


def test_an_archive_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        packed = sealed_zip([("a", b"1"), ("a", b"2")], tmp_path / "twice.edb")
    with pytest.raises(BundleError, match="twice"):
        open_bundle(packed)


def test_an_archive_with_an_unlisted_file_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    members = [(name, (bundle.path / name).read_bytes()) for name in ALL_FILES]
    assert open_bundle(sealed_zip(members, tmp_path / "good.edb")).files == bundle.files
    with pytest.raises(BundleError, match=r"extra\.txt"):
        open_bundle(sealed_zip([*members, ("extra.txt", b"?")], tmp_path / "more.edb"))


def test_a_member_that_unpacks_to_too_much_is_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = write_archive(bundle, tmp_path / "small.edb")
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(BundleError, match="too large"):
        open_bundle(packed)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "foreign.edb"
    file.write_bytes(content)
    with pytest.raises(BundleError):
        open_bundle(file)


def test_nothing_there_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        load(tmp_path / "absent")


def test_a_file_beside_the_bundle_is_reported_not_read(bundle: Bundle) -> None:
    (bundle.path / "notes.txt").write_text("mine")
    again = open_bundle(bundle.path)
    assert again.unlisted == ("notes.txt",)
    assert "notes.txt" not in again.files


def test_writing_replaces_an_older_bundle_whole(bundle: Bundle) -> None:
    files = {**make_files(), GOLDEN: bundle.files[GOLDEN]}
    write_bundle(bundle.path, make_manifest(name="newer"), files)
    assert open_bundle(bundle.path).manifest.name == "newer"
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_writing_spares_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="something else"):
        make_bundle(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failed_write_leaves_the_old_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def full_disk(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError("the disk went away")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(OSError, match="went away"):
        write_bundle(bundle.path, make_manifest(name="newer"), dict(bundle.files))
    assert open_bundle(bundle.path).manifest.name == "support"
    assert [p.name for p in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_a_bundle_without_a_required_file_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    files = {name: content for name, content in bundle.files.items() if name != MODEL}
    with pytest.raises(BundleError, match=f"{MODEL} is missing"):
        write_bundle(tmp_path / "new", bundle.manifest, files)
    assert not (tmp_path / "new").exists()


def test_a_manifest_that_cannot_be_read_back_is_not_written(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="malformed"):
        write_bundle(tmp_path / "new", replace(bundle.manifest, threads=0), bundle.files)
    assert not (tmp_path / "new").exists()
