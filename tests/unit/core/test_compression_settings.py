"""The section `compress` of a task file: forms, recipes, and what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from edgedistill.compress.passes import PASSES
from edgedistill.core.compression import (
    FILE_PASSES,
    RECIPES,
    STRUCTURAL,
    CompressSpec,
    RecipeName,
    refuse_senseless,
)
from edgedistill.core.errors import SpecError
from edgedistill.core.structural import StructuralName
from edgedistill.core.task_file import load_task
from edgedistill.models.structure.catalogue import STRUCTURAL_PASSES

TASK = """\
name: small
data:
  files: {train: train.jsonl}
teacher:
  source: folder:model
  num_epochs: 0
"""


def load(tmp_path: Path, text: str, changes: dict[str, Any] | None = None) -> Any:
    path = tmp_path / "task.yaml"
    path.write_text(TASK + text, encoding="utf-8")
    return load_task(path, changes)


def test_every_pass_that_may_be_named_exists() -> None:
    assert set(STRUCTURAL) == set(STRUCTURAL_PASSES) == set(get_args(StructuralName))
    assert set(FILE_PASSES) == set(PASSES)
    assert set(RECIPES) == set(get_args(RecipeName))
    for passes in RECIPES.values():
        CompressSpec(passes=passes)
        refuse_senseless([each["name"] for each in passes], "passes")


@pytest.mark.parametrize(
    ("text", "recipes", "names"),
    [
        ("compress: {}", ("small", "fast", "balanced"), ()),
        ("compress: small", ("small",), ()),
        ("compress: {recipes: [fast, small]}", ("fast", "small"), ()),
        ("compress: [drop_layers, int8_tables]", None, ("drop_layers", "int8_tables")),
        (
            "compress:\n  passes:\n  - prune_vocabulary\n"
            "  - {name: prune_encoder, share: 0.65, rounds: 3}\n  - {name: dynamic_int8}",
            None, ("prune_vocabulary", "prune_encoder", "dynamic_int8"),
        ),
    ],
)  # fmt: skip
def test_forms(tmp_path: Path, text: str, recipes: tuple[str, ...] | None, names: Any) -> None:
    compress = load(tmp_path, text).compress
    assert compress.names == names
    if recipes:
        assert compress.recipes == recipes
        assert compress.passes is None
    else:
        assert (*[each.name for each in compress.structural], *compress.file_passes) == names


def test_settings_reach_their_pass(tmp_path: Path) -> None:
    text = "compress: [{name: prune_heads, share: 0.25, importance: activation}, drop_layers]"
    with pytest.raises(SpecError, match="drop_layers makes no sense after prune_heads"):
        load(tmp_path, text)
    compress = load(tmp_path, "compress: [drop_layers, {name: prune_heads, rounds: 2}]").compress
    drop, heads = compress.structural
    assert (drop.share, drop.by, heads.rounds, heads.importance) == (0.5, "cosine", 2, "taylor")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("compress: tiny", 7, "'small', 'fast' or 'balanced'"),
        ("compress: {recipes: []}", 7, "recipes"),
        ("compress: {recipes: [small, small]}", 7, "each once"),
        ("compress: {recipes: [small], passes: [drop_layers]}", 7, "not both"),
        ("compress:\n- drop_layers\n- fold_wings", 9, "no pass is called 'fold_wings'"),
        ("compress:\n- {name: drop_layers, share: 1.0}", 8, "share of drop_layers"),
        ("compress:\n- {name: drop_layers, shares: 0.5}", 8, "shares of drop_layers"),
        ("compress:\n- {name: int8_tables, bits: 4}", 8, "int8_tables has no settings"),
        ("compress:\n- drop_layers\n- drop_layers", 9, "drop_layers stands twice"),
        ("compress:\n- prune_heads\n- prune_encoder", 9, "removes heads and neurons itself"),
        ("compress:\n- prune_encoder\n- prune_neurons", 9, "removes heads and neurons itself"),
        ("compress:\n- prune_neurons\n- drop_layers", 9, "would go with the layer"),
        ("compress:\n- factorise_linear\n- prune_neurons", 9, "factors have no neurons"),
        ("compress:\n- factorise_embeddings\n- prune_vocabulary", 9, "factorised by then"),
        ("compress:\n- factorise_embeddings\n- prune_hidden", 9, "factors by then"),
        ("compress:\n- int8_tables\n- drop_layers", 9, "put drop_layers first"),
        ("compress:\n- weight_int8\n- dynamic_int8", 9, "would find nothing after weight_int8"),
        ("compress:\n- int8_tables\n- float16_tables", 9, "would find nothing after int8_tables"),
        ("student: {family: static}\ncompress: small", 7, "student: compress makes no smaller"),
        ("distillation: {strategy: auto}\ncompress: small", 7, "name one"),
        ("distillation: {generations: 2}\ncompress: small", 7, "not built anew"),
        ("compress: {passes: [int8_tables], artefact: [int4_tables]}", 7, "move int8_tables there"),
        ("compress: 3", 7, "compress"),
    ],
)
def test_nonsense_is_refused_with_file_line_and_key(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert told in message
    assert f"task.yaml:{line}: " in message


def test_changes_take_the_place_of_sections_or_leave_them_out(tmp_path: Path) -> None:
    text = "student: {family: static}\nrequirements: {retention: 0.9, size_mb: 3}"
    changes = {"student": None, "compress": {"recipes": ["fast"]},
               "requirements": {"size_mb": 2.0}}  # fmt: skip
    spec = load(tmp_path, text, changes)
    assert spec.student.family == "auto"
    assert spec.compress.recipes == ("fast",)
    assert spec.requirements.size_mb == 2.0
    assert load(tmp_path, text).student.family == "static"
    # What a file leaves empty is still its own to mend.
    with pytest.raises(SpecError, match="teacher"):
        load(tmp_path, "", {"teacher": None})
    assert yaml.safe_load((tmp_path / "task.yaml").read_text())["name"] == "small"


def test_passes_on_the_file_alone_leave_the_student_its_own(tmp_path: Path) -> None:
    spec = load(tmp_path, "student: {family: static}\ncompress: {artefact: [int4_tables]}")
    assert not spec.compress.is_of_teacher
    assert spec.compress.asked == ("int4_tables",)
    both = load(tmp_path, "compress: {recipes: [small], artefact: [int4_tables]}").compress
    assert both.is_of_teacher
    assert both.asked == ("int4_tables",)
    assert load(tmp_path, "compress: [drop_layers, int8_tables]").compress.asked == ("int8_tables",)
