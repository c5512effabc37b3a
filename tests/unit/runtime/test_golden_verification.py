"""Golden examples: recorded, run again, and differences told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill.core.errors import BundleError
from edgedistill.runtime.bundle import Bundle, write_archive
from edgedistill.runtime.manifest import GOLDEN
from edgedistill.runtime.verification import golden_examples, golden_texts, verify
from small_bundle import TEXTS, make_bundle, make_classifier, make_manifest


def rows_of(bundle: Bundle) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bundle.files[GOLDEN].decode().splitlines()]


def with_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return make_bundle(folder, replaced={GOLDEN: content}).path


def test_an_intact_bundle_keeps_its_promise(bundle: Bundle, tmp_path: Path) -> None:
    for path in (bundle.path, write_archive(bundle, tmp_path / "small.edb")):
        result = verify(path)
        assert result.holds
        assert (result.num_files, result.num_examples) == (5, 8)
        assert result.max_logit_difference <= result.tolerance


def test_golden_rows_hold_answers_and_abstentions(bundle: Bundle) -> None:
    rows = rows_of(bundle)
    assert [row["text"] for row in rows] == golden_texts(bundle.files[GOLDEN])
    assert {row["reason"] for row in rows} == {None, "out_of_bounds", "too_short"}
    assert all((row["label"] is None) == (row["reason"] is not None) for row in rows)


@pytest.mark.parametrize(
    ("key", "value", "told"), [("label", "refund", "refund"), ("reason", "empty", "empty")]
)
def test_another_answer_is_a_mismatch(
    bundle: Bundle, tmp_path: Path, key: str, value: str, told: str
) -> None:
    rows = rows_of(bundle)
    changed = next(row for row in rows if row[key] not in (None, value))
    changed[key] = value
    result = verify(with_rows(tmp_path / "other", rows))
    assert not result.holds
    assert [m.text for m in result.mismatches] == [changed["text"]]
    assert told in result.mismatches[0].expected


def test_logits_beyond_the_tolerance_are_a_mismatch(bundle: Bundle, tmp_path: Path) -> None:
    rows = rows_of(bundle)
    rows[0]["logits"][1] += 0.5
    result = verify(with_rows(tmp_path / "other", rows))
    assert len(result.mismatches) == 1
    assert result.mismatches[0].logit_difference == pytest.approx(0.5, abs=1e-4)
    manifest = make_manifest(golden_tolerance=0.6)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    tolerant = make_bundle(tmp_path / "more", manifest=manifest, replaced={GOLDEN: content})
    assert verify(tolerant.path).holds


def test_logits_of_another_length_are_a_mismatch_that_json_can_hold(
    bundle: Bundle, tmp_path: Path
) -> None:
    rows = rows_of(bundle)
    rows[0]["logits"].append(0.0)
    values = verify(with_rows(tmp_path / "other", rows)).as_json()
    assert values["holds"] is False
    assert values["max_logit_difference"] is None
    json.dumps(values, allow_nan=False)


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"[1]\n", b'{"text": "x"}\n', b"\xff\n"])
def test_useless_golden_examples_are_refused(tmp_path: Path, content: bytes) -> None:
    path = make_bundle(tmp_path / "bundle", replaced={GOLDEN: content}).path
    with pytest.raises(BundleError):
        verify(path)


def test_a_line_separator_inside_a_text_does_not_end_its_row() -> None:
    texts = [f"{TEXTS[0]}\u2028now", f"{TEXTS[1]}\nplease\x85"]
    content = golden_examples(make_classifier(), texts)
    assert golden_texts(content) == texts
