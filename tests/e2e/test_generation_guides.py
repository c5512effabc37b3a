"""The guides on models that write are followed word for word, on the small task's bundle in the
bakery's place. Not followed: `run`, which is how that bundle was made, `bench`, which
`test_generation.py` runs with fewer calls, and `serve`, which does not end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import edgedistill
from edgedistill.cli.app import app
from edgedistill.pipeline.run import RunResult
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.loading import load

PROJECT = Path(edgedistill.__file__).parents[2]
GUIDES = ("conversation-data", "distil-a-language-model", "run-on-llama-cpp", "generate-text")
ELSEWHERE = ("run", "bench", "serve", "verify")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
Blocks = list[tuple[str, str]]


def _blocks(guide: str) -> Blocks:
    page = PROJECT / "docs" / "how-to" / f"{guide}.md"
    return FENCE.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def place(generation_run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the project after the bakery's run."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "examples").symlink_to(PROJECT / "examples")
    (tmp_path / "runs" / "bakery").symlink_to(generation_run.folder)
    (tmp_path / "runs" / "store").symlink_to(generation_run.folder.parent / "store")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_of_a_guide_run(guide: str, place: Path) -> None:
    (teacher,) = (place / "runs" / "store").glob("teacher-*")
    num_run, checked = 0, ""
    for language, text in _blocks(guide):
        if language == "text" and checked:
            # What the guide shows of `check` is what it says.
            for line in text.splitlines():
                assert line in checked
            checked = ""
        for line in text.splitlines() if language == "sh" else ():
            command = shlex.split(line.replace("runs/store/teacher-…", str(teacher)))
            if command[0] != "edgedistill" or command[1] in ELSEWHERE:
                continue
            done = CliRunner().invoke(app, command[1:])
            assert done.exit_code == 0, f"{line}\n{done.output}"
            assert done.stdout
            checked = done.stdout if command[1] == "check" else ""
            num_run += 1
    assert num_run >= 2 or guide == "run-on-llama-cpp"


def test_plain_llama_cpp_answers_as_the_bundle(
    generation_run: RunResult, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asking, writing = (text for language, text in _blocks("run-on-llama-cpp")
                       if language == "python")  # fmt: skip
    exec(compile(asking, "run-on-llama-cpp.md", "exec"), {})
    order = re.search(r'order = "(.*)"', asking)
    assert order is not None
    generator = load(generation_run.bundle)
    assert isinstance(generator, Generator)
    limit = generator.settings.max_new_tokens
    expected = generator.complete(generator.prompt_ids([("user", order[1])]), limit)
    assert capfd.readouterr().out.strip() == expected.text
    exec(compile(writing, "run-on-llama-cpp.md", "exec"), {})
    assert "root ::=" in (place / "bakery.gbnf").read_text(encoding="utf-8")
