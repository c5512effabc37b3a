"""`compress.artefact`: names and orders that cannot work are refused with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedistill.core.errors import SpecError
from edgedistill.core.task_file import load_task

CLASSIFICATION = "name: x\ndata:\n  files: {train: a.jsonl}\nteacher:\n  source: package:p\n"
EXTRACTION = (
    "name: x\nkind: extraction\noutput:\n  fields: [{name: total}]\n"
    "data:\n  files: {train: a, validation: b, test: c}\nteacher:\n  source: package:p\n"
)


def load(folder: Path, passes: str, task: str = CLASSIFICATION) -> tuple[str, ...]:
    path = folder / "task.yaml"
    path.write_text(f"{task}compress:\n  artefact: {passes}\n", encoding="utf-8")
    spec = load_task(path)
    assert spec.compress is not None  # type: ignore[union-attr]
    return spec.compress.artefact  # type: ignore[union-attr, return-value]


@pytest.mark.parametrize("task", [CLASSIFICATION, EXTRACTION])
@pytest.mark.parametrize(
    "passes",
    [
        "[palette_16]",
        "[int4_tables, awq_int4]",
        "[awq_int4, int4_tables, float16_weights]",
        "[int8_tables, dynamic_int8, weight_int8]",
        "[float16_tables, group_int8, bfloat16_weights]",
        "[int8_tables, static_int8_entropy, palette_256]",
    ],
)
def test_an_order_in_which_each_finds_something_passes(
    tmp_path: Path, task: str, passes: str
) -> None:
    assert load(tmp_path, passes, task) == tuple(passes.strip("[]").split(", "))


@pytest.mark.parametrize(
    ("passes", "told"),
    [
        ("[int8_tables, int8_tables]", "int8_tables stands twice"),
        ("[int4_tables, float16_tables]", "float16_tables would find nothing after int4_tables"),
        ("[weight_int8, dynamic_int8]", "dynamic_int8 would find nothing after weight_int8"),
        ("[awq_int4, gptq_int4]", "gptq_int4 would find nothing after awq_int4"),
        (
            "[float16_weights, bfloat16_weights]",
            "bfloat16_weights would find nothing after float16_weights",
        ),
        ("[palette_16, weight_int8]", "weight_int8 would find nothing after palette_16"),
        ("[palette_16, palette_256]", "palette_256 would find nothing after palette_16"),
        ("[int4_tabels]", "int4_tabels"),
        ("[]", "at least 1 item"),
    ],
)
@pytest.mark.parametrize("task", [CLASSIFICATION, EXTRACTION])
def test_what_cannot_work_is_refused_before_any_work(
    tmp_path: Path, task: str, passes: str, told: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, passes, task)
    line = task.count("\n") + 2
    assert f"task.yaml:{line}: compress.artefact" in str(caught.value)
    assert told in str(caught.value)


def test_training_for_int4_needs_the_pass_that_stores_it(tmp_path: Path) -> None:
    told = "quantisation_aware trains for group_int4: name it in artefact"
    with pytest.raises(SpecError, match=told) as caught:
        load(tmp_path, "[gptq_int4]\n  quantisation_aware: {}")
    assert "task.yaml:6: compress" in str(caught.value)
    passes = "[int4_tables, group_int4]"
    assert load(tmp_path, f"{passes}\n  quantisation_aware: {{num_epochs: 2}}")
    with pytest.raises(SpecError, match="greater than 0"):
        load(tmp_path, f"{passes}\n  quantisation_aware: {{learning_rate: 0}}")
    with_labels = EXTRACTION.replace(
        "{name: total}]", "{name: total}]\n  labels: [{name: urgent, values: [a, b]}]"
    )
    with pytest.raises(SpecError, match="trains the tags of tokens alone"):
        load(tmp_path, f"{passes}\n  quantisation_aware: {{}}", with_labels)
    with pytest.raises(SpecError, match="sparse_training: trains the tags of tokens alone"):
        load(tmp_path, "[sparse_half]\n  sparse_training: {}", with_labels)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("[float16_weights]", "sparse_training trains for sparse_half or sparse_two_of_four: name"),
        ("[group_int8, sparse_half]", "with nothing in front that takes what it takes"),
        ("[sparse_half]\n  quantisation_aware: {}", "train for different files: leave one out"),
        ("[group_int4, sparse_half]\n  quantisation_aware: {}", "train for different files"),
    ],
)
@pytest.mark.parametrize("task", [CLASSIFICATION, EXTRACTION])
def test_training_with_weights_left_out_needs_the_pass_that_leaves_them_out(
    tmp_path: Path, task: str, section: str, told: str
) -> None:
    with pytest.raises(SpecError, match=told):
        load(tmp_path, f"{section}\n  sparse_training: {{}}", task)


@pytest.mark.parametrize("task", [CLASSIFICATION, EXTRACTION])
def test_training_with_weights_left_out_goes_with_either_pass(tmp_path: Path, task: str) -> None:
    for passes in ("[sparse_half]", "[int8_tables, sparse_two_of_four]"):
        assert load(tmp_path, f"{passes}\n  sparse_training: {{by: movement}}", task)
    with pytest.raises(SpecError, match="'magnitude' or 'movement'"):
        load(tmp_path, "[sparse_half]\n  sparse_training: {by: size}", task)


def test_generation_has_passes_of_its_own(tmp_path: Path) -> None:
    task = "name: x\nkind: generation\ndata:\n  files: {train: a}\nteacher:\n  source: package:p\n"
    with pytest.raises(SpecError, match="compress: unknown key"):
        load(tmp_path, "[palette_16]", task)
