"""data show as a user types it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edgedistill.cli import data
from edgedistill.cli.app import app
from edgedistill.core.errors import DataError, ModelError, SpecError
from edgedistill.tasks.generation.encoding import with_special_tokens
from edgedistill.tasks.generation.showing import show_rows, token_texts
from edgedistill.tasks.generation.templates import CHATML
from small_tokenizers import CHATML_JINJA, STORIES, byte_tokenizer, needs_stories

RUNNER = CliRunner()
ROWS = [
    {"prompt": "Who is Lily?", "response": "A girl."},
    {"prompt": "Why?\x1b[31m \u202e", "draft": "d", "thinking": "t", "response": "So."},
    {"prompt": "p3", "response": "é 漢字 😀\nend"},
    {"prompt": "p4", "response": "r4"},
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A byte-level tokenizer with the special tokens of ChatML and no chat template."""
    folder = tmp_path / "model"
    folder.mkdir()
    with_special_tokens(byte_tokenizer(), CHATML).save(str(folder / "tokenizer.json"))
    return folder


def run(*arguments: object) -> str:
    result = RUNNER.invoke(app, ["data", "show", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_learned_tokens_stand_in_brackets(rows: Path, folder: Path) -> None:
    output = run(rows, "--tokenizer", folder, "--template", "chatml")
    assert "rows: 4, of them hard: 1; template: chatml" in output
    assert "legend: [learned] not learned" in output
    assert "rows.jsonl:1 (easy)" in output
    assert "rows.jsonl:2 (hard)" in output
    assert "rows.jsonl:4" not in output
    assert "note:" not in output
    assert "<|im_start|>user↵\nWho is Lily?<|im_end|>↵\n<|im_start|>assistant↵\n[" in output
    shown = re.sub(r"\[|\]", "", output)
    assert "A girl.<|im_end|>" in shown
    assert "<draft>d</draft><thinking>t</thinking><response>So.</response>" in shown
    assert "é 漢字 😀↵\nend" in shown


def test_the_counts_are_those_of_the_brackets(rows: Path, folder: Path) -> None:
    output = run(rows, "--tokenizer", folder, "--template", "chatml", "--rows", 1)
    body = output.split("learned\n")[2]
    counted = re.search(r"\(easy\): (\d+) of (\d+) tokens learned", output)
    assert counted
    assert int(counted[1]) == body.count("[") > 1
    assert f"shown: {counted[1]} of {counted[2]} tokens learned" in output
    ended = run(rows, "--tokenizer", folder, "--template", "chatml", "--rows", 1, "--learn-end")
    assert f"shown: {int(counted[1]) + 1} of {counted[2]} tokens learned" in ended
    assert "[<|im_end|>]↵" in ended


def test_data_cannot_steer_the_terminal(rows: Path, folder: Path) -> None:
    output = run(rows, "--tokenizer", folder)
    assert "\x1b" not in output
    assert "\u202e" not in output
    assert r"Why?\x1b[31m \u202e" in output


def test_colours_on_a_terminal(rows: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", width=200)
    data._print(show_rows(rows, folder, template="chatml", num_rows=1), "rows", console)
    output = stream.getvalue()
    coloured = "".join(re.findall(r"\x1b\[1;32m(.*?)\x1b\[0m", output))
    assert coloured == "learnedA girl."
    assert "[A" not in re.sub(r"\x1b\[[0-9;]*m", "", output)


def test_without_a_template_the_tokenizers_own_is_used(rows: Path, folder: Path) -> None:
    assert "template: plain\nnote: the tokenizer lacks <|bos|>" in run(rows, "--tokenizer", folder)
    settings: dict[str, Any] = {"eos_token": {"content": "</s>"}, "chat_template": CHATML_JINJA}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    output = run(rows, "--tokenizer", folder)
    assert "template: the tokenizer's own" in output
    assert "<|im_start|>assistant↵\n[" in output
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": CHATML_JINJA}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert run(rows, "--tokenizer", folder) == output
    (folder / "chat_template.jinja").write_text("{{ broken")
    with pytest.raises(SpecError, match="chat template: it cannot be rendered"):
        run(rows, "--tokenizer", folder)
    assert "template: chatml" in run(rows, "--tokenizer", folder, "--template", "chatml")


@needs_stories
def test_a_real_tokenizer(rows: Path) -> None:
    output = run(rows, "--tokenizer", STORIES, "--template", "plain")
    assert "<|user|> Who is Lily?<|assistant|>[ ][A]" in output
    assert "<|assistant|> é 漢字 😀↵\nend<|end|>" in re.sub(r"\[|\]", "", output)


def test_what_cannot_be_used_is_told(rows: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown chat template 'llama9'") as caught:
        run(rows, "--tokenizer", folder, "--template", "llama9")
    assert "chatml, llama3, plain" in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        run(tmp_path / "absent.jsonl", "--tokenizer", folder)
    with pytest.raises(ModelError, match=r"no tokenizer\.json here"):
        run(rows, "--tokenizer", tmp_path)
    (folder / "tokenizer_config.json").write_text("[")
    with pytest.raises(ModelError, match="cannot be read"):
        run(rows, "--tokenizer", folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        run(rows, "--tokenizer", folder)


def test_the_tokenizer_is_required_and_help_shows_an_example(
    edgedistill_command: Callable[..., Any], rows: Path
) -> None:
    done = edgedistill_command("data", "show", rows)
    assert done.returncode == 2
    assert "name the folder of the model's tokenizer" in " ".join(done.stderr.decode().split())
    told = edgedistill_command("data", "show", "--help").stdout.decode()
    assert "$ edgedistill data show rows.jsonl --tokenizer" in told
    assert "FILE" in told


@pytest.mark.parametrize("text", ["é 漢字 😀", "x  y " * 90, "漢字" * 90, "\ufffd a \ufffd", ""])
def test_token_texts_join_to_the_text(text: str) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode(text).ids
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == text
