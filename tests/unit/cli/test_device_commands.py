"""predict, bench, verify, compare as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import edgedistill
from edgedistill.cli.app import app
from edgedistill.core.errors import (
    BudgetExceeded,
    BundleError,
    DataError,
    SpecError,
    VerificationFailed,
)
from edgedistill.runtime.bundle import Bundle, write_archive
from edgedistill.runtime.manifest import GOLDEN
from small_bundle import OUT_OF_BOUNDS, make_bundle, make_manifest

RUNNER = CliRunner()


def run(*arguments: object, stdin: bytes | None = None) -> str:
    """Standard output of a command that must succeed."""
    result = RUNNER.invoke(app, [str(a) for a in arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def json_lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_predict_prints_a_line_for_each_text(bundle: Bundle) -> None:
    lines = run("predict", bundle.path, "where is my parcel", OUT_OF_BOUNDS, "no").splitlines()
    label, confidence, text = lines[0].split("\t")
    assert (label, text) == ("track", "where is my parcel")
    assert 0.9 < float(confidence) <= 1
    assert lines[1].startswith("(abstains: out_of_bounds")
    assert lines[2].startswith("(abstains: too_short")
    assert len(lines) == 3


def test_a_text_with_line_breaks_stays_on_its_line(bundle: Bundle) -> None:
    assert run("predict", bundle.path, "stop\nit\tnow").splitlines()[0].endswith("\tstop it now")


def test_predict_reads_archives(bundle: Bundle, tmp_path: Path) -> None:
    packed = write_archive(bundle, tmp_path / "small.edb")
    assert run("predict", packed, "stop it now").startswith("cancel\t")


def test_predict_from_json_lines_keeps_ids(bundle: Bundle) -> None:
    rows = b'{"id": 3, "text": "stop it now", "label": "gold"}\n\n{"text": null}\n'
    first, second = json_lines(run("predict", bundle.path, "--stdin", "--json", stdin=rows))
    assert (first["id"], first["text"], first["label"]) == (3, "stop it now", "cancel")
    assert second["reason"] == "wrong_type"


def test_predict_from_plain_lines(bundle: Bundle) -> None:
    rows = "stop it now\nwhere is my parcel — é\n".encode()
    found = json_lines(run("predict", bundle.path, "--stdin", "--json", stdin=rows))
    assert [row["label"] for row in found] == ["cancel", "track"]
    assert found[1]["text"] == "where is my parcel — é"


def test_bytes_that_are_no_utf8_get_an_answer_each(bundle: Bundle) -> None:
    rows = b"stop it now\n\xff\xfe where\nstop it now\n"
    found = json_lines(run("predict", bundle.path, "--stdin", "--json", stdin=rows))
    assert [row["reason"] for row in found] == [None, "wrong_type", None]
    readable = run("predict", bundle.path, "--stdin", stdin=rows)
    assert len(readable.splitlines()) == 3


def test_a_ten_megabyte_line_is_too_long(bundle: Bundle) -> None:
    rows = b"x" * 10_000_000 + b"\nstop it now\n"
    found = json_lines(run("predict", bundle.path, "--stdin", "--json", stdin=rows))
    assert [row["reason"] for row in found] == ["too_long", None]


def test_a_broken_row_is_named(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="JSON object") as caught:
        run("predict", bundle.path, "--stdin", stdin=b'{"text": "stop it now"}\n{"text"\n')
    assert caught.value.where == "standard input, line 2"


@pytest.mark.parametrize("arguments", [[], ["stop it now", "--stdin"]])
def test_nothing_to_ask_or_asked_twice(bundle: Bundle, arguments: list[str]) -> None:
    with pytest.raises(SpecError, match="nothing to ask"):
        run("predict", bundle.path, *arguments, stdin=b"")


def test_a_reader_that_leaves_early_is_no_error(bundle: Bundle) -> None:
    source = str(Path(edgedistill.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-m", "edgedistill.cli.app", "predict", bundle.path, "--stdin"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"stop it now\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"cancel")  # at once, not at the end
        process.stdout.close()
        process.stdin.write(b"stop it now\n" * 100)
        process.stdin.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_verify_tells_what_it_checked(bundle: Bundle) -> None:
    output = run("verify", bundle.path)
    assert "5 files as hashed" in output
    assert "8 of 8 golden examples" in output
    assert json.loads(run("verify", bundle.path, "--json"))["holds"] is True


def test_verify_fails_on_another_answer(bundle: Bundle, tmp_path: Path) -> None:
    content = bundle.files[GOLDEN].replace(b'"label": "track"', b'"label": "refund"', 1)
    other = make_bundle(tmp_path / "other", replaced={GOLDEN: content})
    with pytest.raises(VerificationFailed, match="1 golden") as caught:
        run("verify", other.path)
    assert caught.value.exit_code == 10


def test_verify_fails_on_a_changed_byte(bundle: Bundle) -> None:
    card = bundle.path / "MODEL_CARD.md"
    card.write_bytes(card.read_bytes().replace(b"S", b"s"))
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md is damaged"):
        run("verify", bundle.path)


def test_bench_prints_figures_and_how_they_were_limited(bundle: Bundle) -> None:
    output = run("bench", bundle.path, "--threads", 1, "--memory-mb", 900, "--watts", 2)
    for part in ("p50", "p95", "p99", "cold start", "peak memory", "energy"):
        assert part in output
    assert "limits — memory, 900 MB: resident peak watched" in output
    assert "NOT ENFORCED" not in output
    assert "estimate: " in output or "counted by the processor" in output


def test_bench_over_its_memory_exceeds_the_budget(bundle: Bundle) -> None:
    result = RUNNER.invoke(app, ["bench", str(bundle.path), "--memory-mb", "15", "--json"])
    assert json.loads(result.stdout)["exceeded"] is True
    assert isinstance(result.exception, BudgetExceeded)
    told = re.search(r"it needs ([\d.]+) MB of memory, the limit is 15 MB", str(result.exception))
    assert told
    assert 30 < float(told[1]) < 250


def test_compare_prints_both_sides(bundle: Bundle, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "stop it now", "label": "cancel"}\n{"text": "where is my parcel"}\n')
    output = run("compare", bundle.path, bundle.path, "--on", rows)
    lines = {line[:18].strip(): line[18:].split() for line in output.splitlines()}
    assert lines["Same answer"] == ["100.00%", "100.00%"]
    assert lines["Right"] == ["100.00%", "100.00%"]
    assert "2 rows, 1 of them say what is right" in output
    page = tmp_path / "page.html"
    other = make_bundle(tmp_path / "other", manifest=make_manifest(name="other"))
    arguments = ("compare", bundle.path, other.path, bundle.path, "--on", rows)
    values = json.loads(run(*arguments, "--json", "--html", page))
    assert values["num_labelled"] == 1
    assert [side["name"] for side in values["sides"]] == ["support", "other", "support"]
    assert values["sides"][0]["retention"] is None
    assert values["sides"][1]["retention"]["high"] == 1.0
    assert page.read_text().count("<svg") == 4


def test_compare_needs_two(bundle: Bundle, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "stop it now"}\n')
    with pytest.raises(SpecError, match="cannot be compared"):
        run("compare", bundle.path, "--on", rows)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"plain text"])
def test_compare_on_a_useless_file(bundle: Bundle, tmp_path: Path, content: bytes | None) -> None:
    rows = tmp_path / "rows.jsonl"
    if content is not None:
        rows.write_bytes(content)
    with pytest.raises(DataError):
        run("compare", bundle.path, bundle.path, "--on", rows)
