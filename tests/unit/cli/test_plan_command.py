"""plan as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import edgedistill
from edgedistill.cli.app import app
from edgedistill.core.errors import BudgetExceeded, ModelError, SpecError

RUNNER = CliRunner()
SOURCE = str(Path(edgedistill.__file__).parents[1])


def run(*arguments: object) -> str:
    result = RUNNER.invoke(app, ["plan", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def over_budget(*arguments: object) -> tuple[str, BudgetExceeded]:
    result = RUNNER.invoke(app, ["plan", *map(str, arguments)])
    assert isinstance(result.exception, BudgetExceeded), result.output
    return result.stdout, result.exception


@pytest.mark.parametrize(
    "arguments",
    [
        ("llama-3.1-8b",),
        ("llama-3.1-8b", "--context", 10**9, "--kv", "f32", "--tensors"),
        ("llama-3.1-8b", "--max-mb", 5000, "--max-memory-mb", 6000),
        ("bert-base-uncased", "--max-mb", 60, "--tensors"),
        ("mistral-7b", "--scheme", "embedding=int8,attention=int4_g128,mlp=palette_16,head=bf16"),
        ("smollm2-135m", "--scheme", "onnx_gptq_int4", "--max-mb", 100),
        ("llama-3.1-8b", "--draft", "tinyllama-1.1b", "--lora-rank", 16, "--num-adapters", 3,
         "--router", "768,256,128,64,32,16,8,4,2", "--other-mb", 36),
    ],
)  # fmt: skip
def test_every_line_fits_into_eighty_columns(arguments: tuple[object, ...]) -> None:
    lines = run(*arguments).splitlines()
    assert len(lines) > 15
    assert [line for line in lines if len(line) > 80] == []


def test_names_in_the_table_are_whole() -> None:
    text = run("smollm2-135m")
    for name in json.loads(run("smollm2-135m", "--json"))["schemes"]:
        assert f"\n{name} " in text


def test_the_whole_system_is_listed_and_added_up() -> None:
    arguments = (
        "llama-3.1-8b", "--scheme", "awq_g128", "--draft", "llama-3.2-1b", "--draft-scheme",
        "gguf_q4_k", "--lora-rank", 16, "--lora-targets", "q_proj, v_proj", "--num-adapters", 3,
        "--lora-format", "bf16", "--router", "768,256,128,32", "--other-mb", 36, "--kv", "q4_0",
    )  # fmt: skip
    plan: dict[str, Any] = json.loads(run(*arguments, "--json"))
    parts = {part["name"]: part for part in plan["system"]["parts"]}
    assert list(parts) == ["model", "draft", "adapters", "router", "other"]
    assert parts["model"]["size_bytes"] == plan["schemes"]["awq_g128"]["size_bytes"]
    assert parts["adapters"]["num_parameters"] == 3 * 32 * 16 * (8192 + 5120)
    assert parts["other"]["size_bytes"] == 36_000_000
    assert plan["system"]["disk_bytes"] == sum(part["size_bytes"] for part in parts.values())
    assert plan["system"]["cache"] == "q4_0"
    assert plan["within_budget"] is plan["nearest"] is None
    assert sum(tensor["size_bytes"] for tensor in plan["tensors"]) == (
        parts["model"]["size_bytes"] - plan["schemes"]["awq_g128"]["overhead_bytes"]
    )
    text = run(*arguments)
    for name in parts:
        assert f"  {name} " in text


def test_an_impossible_budget_is_exit_code_5_with_what_is_nearest() -> None:
    output, error = over_budget("llama-3.1-8b", "--max-mb", 890)
    assert error.exit_code == 5
    assert "within the budget: nothing" in output
    assert "0.887 bits each" in output
    assert "fewer blocks" in output
    assert "gguf_iq1_s" in str(error)
    output, _ = over_budget("llama-3.1-8b", "--max-mb", 890, "--json")
    plan = json.loads(output)
    assert plan["within_budget"] == []
    assert plan["nearest"]["required_bits_per_weight"] == pytest.approx(890e6 * 8 / 8_030_261_248)
    assert all(each["disk_bytes"] <= 890e6 for each in plan["nearest"]["fewer_blocks"])


def test_a_budget_that_is_kept_shows_the_ranking() -> None:
    output = run("smollm2-135m", "--max-mb", 100)
    assert "within the budget:" in output
    ranked = output.split("within the budget:")[1].splitlines()[2:]
    bits = [float(line.split()[1]) for line in ranked if line.startswith("  gguf")]
    assert bits == sorted(bits, reverse=True)
    assert len(bits) > 3


@pytest.mark.parametrize(
    ("arguments", "family"),
    [
        (("no-such-model",), SpecError),
        (("gpt2", "--max-mb", 0), SpecError),
        (("gpt2", "--router", "a,b"), SpecError),
        (("gpt2", "--router", ""), SpecError),
        (("gpt2", "--lora-rank", 0), SpecError),
        (("gpt2", "--lora-rank", 4, "--lora-targets", "nothing"), SpecError),
        (("gpt2", "--kv", "f8"), SpecError),
    ],
)
def test_what_cannot_be_asked_is_refused(
    arguments: tuple[object, ...], family: type[Exception]
) -> None:
    result = RUNNER.invoke(app, ["plan", *map(str, arguments)])
    assert isinstance(result.exception, family)


def test_a_config_without_a_vocabulary_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')
    result = RUNNER.invoke(app, ["plan", str(tmp_path)])
    assert isinstance(result.exception, ModelError)
    assert result.exception.exit_code == 4
    assert "is missing" in str(result.exception)


def test_help_teaches() -> None:
    help_text = RUNNER.invoke(app, ["plan", "--help"]).stdout
    for words in ("config.json", "Exit code 5", "Examples:", "--max-mb", "llama-3.1-8b"):
        assert words in help_text


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from edgedistill.cli.app import app\n"
        "try: app(['plan', 'llama-3.1-8b', '--max-mb', '5000'])\n"
        "except SystemExit: pass\n"
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert "edgedistill" in loaded
    assert not loaded & {"torch", "transformers", "yaml", "onnxruntime", "onnx",
                         "safetensors", "gguf", "scipy"}  # fmt: skip
