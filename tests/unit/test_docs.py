"""The documentation can be followed: commands parse, links resolve, snippets run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import edgedistill
from edgedistill.cli.app import app
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.core.task import TaskSpec
from small_bundle import make_bundle
from small_extractor import make_bundle as make_extraction_bundle

PROJECT = Path(edgedistill.__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in PROJECT.glob(pattern)
    if "results" not in path.parts
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MINIMAL = {
    "name": "docs",
    "data": {"files": {"train": "t.jsonl", "validation": "v.jsonl", "test": "e.jsonl"}},
    "teacher": {"source": "hub:a/b"},
}
MINIMAL_GENERATION = {
    "name": "docs",
    "data": {"files": {"train": "t.jsonl", "validation": "v.jsonl", "test": "e.jsonl"}},
}
MINIMAL_EXTRACTION = MINIMAL | {"output": {"fields": [{"name": "field"}]}}


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """(page and number, contents) of the fenced blocks of these languages."""
    for page in PAGES:
        for number, (language, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8"))):
            if language in languages:
                yield f"{page.relative_to(PROJECT)}#{number}", text


def commands() -> Iterator[tuple[str, list[str]]]:
    """(page, arguments) of every line that calls edgedistill."""
    for place, text in blocks("sh", "console"):
        for line in text.splitlines():
            for part in line.removeprefix("$ ").split(" | "):
                if part.startswith("edgedistill "):
                    yield place, shlex.split(part, comments=True)[1:]


def test_there_is_documentation() -> None:
    assert len(PAGES) >= 20
    assert len(list(commands())) >= 20


def test_every_command_line_parses() -> None:
    entry = typer.main.get_command(app)
    for place, arguments in commands():
        if arguments[0].startswith("["):
            continue
        try:
            parent = entry.make_context("edgedistill", list(arguments))
            rest = [*parent._protected_args, *parent.args]
            name, command, left = entry.resolve_command(parent, rest)  # type: ignore[attr-defined]
            command.make_context(name, left, parent=parent)
        except Exception as error:
            pytest.fail(f"{place}: edgedistill {shlex.join(arguments)}: {error}")


def test_every_relative_link_resolves() -> None:
    broken, num_links = [], 0
    for page in PAGES:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            num_links += 1
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{page.relative_to(PROJECT)}: {target}")
    assert num_links >= 40
    assert broken == []


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def test_every_task_fragment_is_valid() -> None:
    fragments = [(place, yaml.safe_load(text)) for place, text in blocks("yaml")]
    fragments = [(place, value) for place, value in fragments if value]
    assert len(fragments) >= 8
    for place, value in fragments:
        try:
            if value.get("kind") == "generation":
                GenerationSpec.model_validate(MINIMAL_GENERATION | value)
            elif value.get("kind") == "extraction" or "heads" in value:
                output = MINIMAL_EXTRACTION["output"] | value.get("output", {})  # type: ignore[operator]
                whole = MINIMAL_EXTRACTION | {"kind": "extraction"} | value | {"output": output}
                ExtractionSpec.model_validate(whole)
            else:
                TaskSpec.model_validate(completed(value))
        except ValueError as error:
            pytest.fail(f"{place}: {error}")


def completed(fragment: dict[str, Any]) -> dict[str, Any]:
    """The fragment as a whole task."""
    task = MINIMAL | fragment
    data = task["data"]
    if "files" not in data and "hub" not in data:
        task["data"] = MINIMAL["data"] | data  # type: ignore[operator]
    return task


def test_python_snippets_compile_and_those_on_a_bundle_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path / "runs" / "my-task" / "bundle")
    make_extraction_bundle(tmp_path / "runs" / "invoices" / "bundle")
    monkeypatch.chdir(tmp_path)
    num_run = 0
    for place, text in blocks("python"):
        code = compile(text, place, "exec")
        if "edgedistill.load(" in text:
            exec(code, {})
            num_run += 1
    assert num_run >= 3
    assert "wrong_type" in capsys.readouterr().out
