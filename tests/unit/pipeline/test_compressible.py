"""What `compress` refuses of a teacher or a size before any work."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgedistill.core.compression import CompressSpec
from edgedistill.core.errors import BudgetExceeded, ModelError, SpecError
from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.task import TaskSpec
from edgedistill.pipeline.compressible import require_compressible, require_reachable
from edgedistill.pipeline.compression import compressing
from edgedistill.pipeline.search import candidates_of, is_asked_for
from edgedistill.tasks.classification import TextEncoder

CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 384, "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536, "vocab_size": 30522,
    "architectures": ["BertForSequenceClassification"],
}  # fmt: skip
#: A tokenizer of 300 KB, and training texts with 5,000 different tokens.
ENCODER = cast(TextEncoder, SimpleNamespace(packed=bytes(300_000), num_tokens=0))
USED = np.tile(np.arange(5000), 2)


def spec(**changes: Any) -> TaskSpec:
    return TaskSpec(**{
        "name": "small", "data": {"files": {"train": "train.jsonl"}}, "compress": {},
        "teacher": {"source": "folder:model", "num_epochs": 0}, **changes,
    })  # fmt: skip


def folder(tmp_path: Path, **changes: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "albert"}, "share their weights"),
        ({"model_type": "distilbert"}, "no student can be cut out of a 'distilbert' encoder"),
        ({"hidden_act": "quick_gelu"}, "quick_gelu"),
        ({"architectures": ["BertForTokenClassification"]}, "no classifier of whole texts"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        require_compressible(spec(), folder(tmp_path, **changes))
    assert "config.json" in str(caught.value)


def test_a_task_of_extraction_takes_models_of_tokens(tmp_path: Path) -> None:
    tagging = ExtractionSpec.model_validate({
        "name": "small", "kind": "extraction", "compress": "fast",
        "output": {"fields": [{"name": "item"}]},
        "data": {"files": {"train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}},
        "teacher": {"source": "folder:model", "num_epochs": 0},
    })  # fmt: skip
    require_compressible(tagging, folder(tmp_path, architectures=["BertForTokenClassification"]))
    with pytest.raises(ModelError, match="no classifier of tokens") as caught:
        require_compressible(tagging, folder(tmp_path))
    assert "ForTokenClassification" in caught.value.fix
    assert [each.name for each in candidates_of(tagging)] == ["fast"]
    assert is_asked_for(tagging)
    assert tagging.compress == spec(compress="fast").compress


def test_what_is_fine_tuned_here_may_be_an_encoder(tmp_path: Path) -> None:
    encoder = folder(tmp_path, architectures=["BertModel"])
    require_compressible(spec(teacher={"source": "folder:x"}), encoder)
    with pytest.raises(ModelError, match="BertModel"):
        require_compressible(spec(), encoder)
    # Without the section nothing is asked of the teacher.
    require_compressible(spec(compress=None), folder(tmp_path, model_type="albert"))


def test_a_size_that_nothing_reaches_is_refused_with_what_is_reached(tmp_path: Path) -> None:
    source = folder(tmp_path)
    # 5,000 tokens of 384, three layers of 1.2 to 1.8 million weights: 2.6 MB in four bits.
    for size_mb, compress in ((3, {}), (1, None), (None, {})):
        require_reachable(
            spec(compress=compress, requirements={"size_mb": size_mb}), source, ENCODER, USED, 150
        )
    with pytest.raises(BudgetExceeded) as caught:
        require_reachable(spec(requirements={"size_mb": 1}), source, ENCODER, USED, 150)
    message = str(caught.value)
    assert all(f"{name} about" in message for name in ("small", "fast", "balanced"))
    assert "ask for" in message
    own = spec(compress=["int8_tables"], requirements={"size_mb": 6})
    with pytest.raises(BudgetExceeded, match=r"own-passes about 2[0-9]"):
        require_reachable(own, source, ENCODER, USED, 150)


def test_a_search_reaches_further_than_its_recipes(tmp_path: Path) -> None:
    source = folder(tmp_path)
    fast = {"recipes": ["fast"]}
    with pytest.raises(BudgetExceeded, match="fast about 4"):
        require_reachable(
            spec(compress=fast, requirements={"size_mb": 3}), source, ENCODER, USED, 150
        )
    searched = {**fast, "search": {}}
    require_reachable(
        spec(compress=searched, requirements={"size_mb": 3}), source, ENCODER, USED, 150
    )
    with pytest.raises(BudgetExceeded, match="layers-67-heads-50-neurons-75-table-67 about"):
        require_reachable(
            spec(compress=searched, requirements={"size_mb": 0.5}), source, ENCODER, USED, 150
        )


def test_four_bits_are_reckoned_with_unless_the_task_names_other_passes(tmp_path: Path) -> None:
    source = folder(tmp_path)

    def refused(compress: Any) -> str:
        with pytest.raises(BudgetExceeded) as caught:
            require_reachable(
                spec(compress=compress, requirements={"size_mb": 0.5}), source, ENCODER, USED, 150
            )
        return caught.value.what

    def told(compress: Any, name: str) -> float:
        return float(refused(compress).split(f"{name} about ")[1].split()[0])

    in_eight = told(
        [{"name": "drop_layers", "share": 0.5}, "int8_tables", "dynamic_int8"], "own-passes"
    )
    in_four = told(
        [{"name": "drop_layers", "share": 0.5}, "int4_tables", "group_int4"], "own-passes"
    )
    left_open = told([{"name": "drop_layers", "share": 0.5}], "own-passes")
    assert left_open == in_four < in_eight


def test_candidates_are_recipes_or_the_one_sequence() -> None:
    assert [c.name for c in candidates_of(spec())] == ["small", "fast", "balanced"]
    assert not is_asked_for(spec())
    own = spec(compress=[{"name": "prune_heads", "share": 0.25}, "int8_tables"])
    (candidate,) = candidates_of(own)
    assert is_asked_for(own)
    assert (candidate.family, candidate.name) == ("compressed", "own-passes")
    (only,) = candidate.options["passes"]
    assert (only["name"], only["share"], only["importance"]) == ("prune_heads", 0.25, "taylor")
    # `auto` looks for smaller students, not for this.
    others = spec(compress=None)
    assert "compressed" not in {c.family for c in candidates_of(others)}


def test_the_command_puts_the_model_in_the_place_of_teacher_and_student(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(
        "name: mails\ndata: {files: {train: t.jsonl}}\nteacher: {source: package:other}\n"
        "student: {family: static}\nrequirements: {retention: 0.9, size_mb: 9}\n"
    )
    changes = compressing(task, str(tmp_path / "model"), recipes=["fast"], max_mb=6, max_p95_ms=2)
    assert changes["name"] == "mails-compressed"
    assert changes["teacher"] == {"source": f"folder:{tmp_path / 'model'}", "num_epochs": 0}
    assert changes["student"] is None
    assert changes["compress"] == {"recipes": ["fast"]}
    assert changes["requirements"] == {"retention": 0.9, "size_mb": 6, "latency_p95_ms": 2}
    task.write_text(f"{task.read_text()}compress: {{artefact: [int8_tables]}}\n")
    section = compressing(task, "hub:a/b")["compress"]
    assert section["artefact"] == ["int8_tables"]
    # A section on the file alone would distil a smaller student.
    assert CompressSpec(**section).is_of_teacher
    assert compressing(task, "hub:a/b")["teacher"]["source"] == "hub:a/b"
    task.write_text(f"kind: extraction\n{task.read_text()}")
    assert compressing(task, str(tmp_path / "model"), recipes=["fast"])["student"] is None
    with pytest.raises(SpecError, match="no recipe is called 'tiny'"):
        compressing(task, "model", recipes=["tiny"])
    task.write_text("kind: generation\nname: x\n")
    with pytest.raises(SpecError, match="a generation task cannot be compressed"):
        compressing(task, "model")
