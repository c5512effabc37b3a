"""A strategy that student or teacher cannot follow is refused by `check`, before any work."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedistill
import small_task
from edgedistill.core.errors import BudgetExceeded, EdgeDistillError, MissingSignal, SpecError
from edgedistill.core.events import Event
from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import ResponseSettings
from edgedistill.core.task import DistillationSpec, TaskSpec
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.run import run_task
from edgedistill.pipeline.search import candidates_of, search
from edgedistill.pipeline.stages import internals
from edgedistill.pipeline.stages.any_ground import Candidate
from edgedistill.pipeline.stages.artefact import Artefact
from edgedistill.pipeline.store import Store
from edgedistill.pipeline.strategy import layers_asked, require_suited
from edgedistill.tasks.classification import TextEncoder

PROJECT = Path(edgedistill.__file__).parents[2]
TRUNCATED = {"family": "truncated", "options": {"layers": [1]}}


def task(folder: Path, teacher: Path, strategy: Any, student: Any = TRUNCATED) -> Path:
    distillation = {"strategy": strategy, "augmentation": {"num_texts": 80}}
    return small_task.write_task(folder, teacher, student=student, distillation=distillation)


def refusal(path: Path) -> EdgeDistillError:
    """The refusal of `check`, which is that of `run` before its first stage."""
    with pytest.raises(EdgeDistillError) as checked:
        check_task(path)
    with pytest.raises(EdgeDistillError) as run:
        run_task(path, runs_dir=path.parent / "runs")
    assert str(checked.value) == str(run.value)
    assert not (path.parent / "runs" / "store").exists()
    return checked.value


def test_the_default_is_response_with_its_defaults() -> None:
    assert DistillationSpec().strategy == (ResponseSettings(),)
    for written in ("response", ["response"], {"name": "response"}, [{"name": "response"}]):
        assert DistillationSpec.model_validate({"strategy": written}) == DistillationSpec()


@pytest.mark.parametrize(
    ("entry", "line", "words"),
    [
        ("attenion", 3, ["no strategy is called 'attenion'", "attention", "relation"]),
        ("{name: attention, layres: last}", 3, ["strategy.1.layres", "did you mean 'layers'"]),
        ("{name: feature, weight: -1}", 3, ["strategy.1.weight", "greater than or equal to 0"]),
        ("{name: feature, weight: .nan}", 3, ["strategy.1.weight", "finite"]),
        ("{name: feature, layers: first}", 3, ["strategy.1.layers", "uniform, deepest, last"]),
        ("{name: feature, layers: []}", 3, ["strategy.1.layers", "uniform, deepest, last"]),
        ("{name: feature, layers: [[0, 1, 2]]}", 3, ["strategy.1.layers", "pairs"]),
        ("{name: relation, of: []}", 3, ["strategy.1.of"]),
        ("{name: response, loss: mse, temperature: 2}", 3, ["loss mse has no temperature"]),
        ("{name: response, target_weight: 2}", 3, ["loss kl has no target_weight"]),
        ("{weight: 2}", 3, ["strategy.1", "needs a name"]),
        ("7", 1, ["the name of a strategy"]),
    ],
)
def test_wrong_entries_are_told_with_file_line_and_key(
    tmp_path: Path, entry: str, line: int, words: list[str]
) -> None:
    head = "name: x\ndata: {files: {train: a.jsonl}}\nteacher: {source: 'package:p'}\n"
    text = f"{head}distillation:\n  strategy:\n    - response\n    - {entry}\n"
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        check_task(tmp_path / "task.yaml")
    message = str(caught.value)
    assert f"task.yaml:{4 + line}: distillation.strategy" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (["attention"], "needs response among its parts"),
        ([], "needs response among its parts"),
        ([{"name": "response", "weight": 0}], "all 0"),
    ],
)
def test_strategies_that_teach_nothing_are_refused(strategy: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DistillationSpec.model_validate({"strategy": strategy})


@pytest.mark.parametrize("name", ["feature", "attention", "relation"])
@pytest.mark.parametrize("family", ["static", "linear"])
def test_students_without_an_inside(
    tmp_path: Path, teacher_folder: Path, family: str, name: str
) -> None:
    path = task(tmp_path, teacher_folder, ["response", name], {"family": family})
    error = refusal(path)
    assert isinstance(error, MissingSignal)
    assert error.exit_code == 4
    assert family in str(error)
    assert "truncated or small_transformer" in str(error) or family == "linear"
    if (family, name) == ("static", "attention"):
        # What the guide shows is what is said.
        guide = PROJECT / "docs" / "how-to" / "choose-a-strategy.md"
        assert f"edgedistill: {error}\n" in guide.read_text(encoding="utf-8")


def test_a_student_without_a_teacher_has_no_generations(
    tmp_path: Path, teacher_folder: Path
) -> None:
    path = small_task.write_task(
        tmp_path, teacher_folder, student={"family": "linear"}, distillation={"generations": 2}
    )
    assert "fitted to labels alone" in str(refusal(path))


def test_auto_leaves_out_what_cannot_follow_and_says_why(tmp_path: Path) -> None:
    spec = TaskSpec.model_validate({
        "name": "x", "data": {"files": {"train": "a.jsonl"}}, "teacher": {"source": "hub:a/b"},
        "distillation": {"strategy": ["response", "attention"]},
    })  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({
        "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4,
    }))  # fmt: skip

    def make(candidate: Candidate) -> Artefact:
        require_suited(spec, candidate, tmp_path)
        raise AssertionError("it suits")

    def nothing(event: Event) -> None:
        pass

    context = Context(spec, tmp_path, tmp_path, Store(tmp_path, nothing), nothing, math.inf)
    static = [c for c in candidates_of(spec) if c.family == "static"]
    with pytest.raises(BudgetExceeded) as caught:
        search(context, static, make, lambda _: 0, np.zeros(1, bool))
    told = "does not suit this strategy: a static student has no attention maps to compare"
    assert str(caught.value).count(told) == len(static) == 3
    others = [c for c in candidates_of(spec) if c.family in ("truncated", "small_transformer")]
    assert layers_asked(spec, [*static, *others], tmp_path) == {Signal.ATTENTIONS: (1, 2, 3, 5)}
    for candidate in others:
        require_suited(spec, candidate, tmp_path)


def test_a_fine_tuned_classifier_of_another_make(tmp_path: Path, teacher_folder: Path) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(teacher_folder, foreign)
    config = json.loads((foreign / "config.json").read_text())
    names = {str(i): label for i, label in enumerate(small_task.PHRASES)}
    (foreign / "config.json").write_text(json.dumps(config | {"id2label": names}))
    path = small_task.write_task(
        tmp_path / "task", foreign, student=TRUNCATED,
        teacher={"source": f"folder:{foreign}", "num_epochs": 0},
        distillation={"strategy": ["response", "relation"]},
    )  # fmt: skip
    error = refusal(path)
    assert isinstance(error, MissingSignal)
    assert error.where == "teacher.num_epochs"


def test_a_teacher_whose_inside_is_unknown(tmp_path: Path, teacher_folder: Path) -> None:
    strange = tmp_path / "strange"
    shutil.copytree(teacher_folder, strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps(config | {"model_type": "mpnet"}))
    error = refusal(task(tmp_path / "task", strange, ["response", "feature"]))
    assert isinstance(error, MissingSignal)
    assert "'mpnet'" in str(error)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"name": "feature", "layers": [[0, 2]]}, "the teacher has no layer 2"),
        ({"name": "attention", "layers": [[1, 1]]}, "the student has no layer 1"),
        ({"name": "relation", "num_heads": 3}, "cannot be cut into 3"),
    ],
)
def test_layers_and_heads_that_are_not_there(
    tmp_path: Path, teacher_folder: Path, part: Any, message: str
) -> None:
    error = refusal(task(tmp_path, teacher_folder, ["response", part]))
    assert isinstance(error, SpecError)
    assert message in error.what
    assert error.where == f"distillation.strategy.1 ({part['name']})"


def test_auto_is_refused_only_where_no_student_can_follow(
    tmp_path: Path, teacher_folder: Path
) -> None:
    auto = {"family": "auto"}
    # No preset's layers are in a teacher of two, but the strategy can be followed.
    assert check_task(task(tmp_path / "a", teacher_folder, ["response", "feature"], auto))
    wrong = ["response", {"name": "feature", "layers": [[7, 7]]}]
    assert "no layer 7" in str(refusal(task(tmp_path / "b", teacher_folder, wrong, auto)))


def test_check_foresees_what_views_and_generations_cost(
    tmp_path: Path, teacher_folder: Path
) -> None:
    costs = []
    for place, settings in enumerate((
        {}, {"generations": 3}, {"strategy": ["response", "consistency"], "generations": 2},
    )):  # fmt: skip
        path = small_task.write_task(
            tmp_path / str(place), teacher_folder, distillation=settings, student=TRUNCATED
        )
        seconds = check_task(path).forecast.seconds
        costs.append(seconds["students"] / seconds["transfer"])
    assert costs == pytest.approx([costs[0], 3 * costs[0], 6 * costs[0]])


def test_check_foresees_the_cache_or_says_why_there_is_none(
    tmp_path: Path, teacher_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = task(tmp_path, teacher_folder, ["response", "feature", "relation"])
    plain = check_task(task(tmp_path / "plain", teacher_folder, "response")).forecast
    foreseen = check_task(path)
    # 200 texts; of layer 1 the states, queries, keys and values of 32 numbers a token.
    texts = [row["text"] for row in small_task.rows(40, 1)]
    tokens = TextEncoder(teacher_folder / "tokenizer.json", 64).encode(texts).lengths.mean()
    size_bytes = 200 * tokens * 4 * 32 * 2
    assert foreseen.forecast.internals_bytes == pytest.approx(size_bytes, rel=1e-5)
    assert foreseen.forecast.disk_bytes > plain.disk_bytes
    assert foreseen.forecast.seconds["teacher's inside"] > 0
    assert foreseen.warnings == ()
    assert plain.internals_bytes == 0
    assert "teacher's inside" not in plain.seconds
    monkeypatch.setattr(internals, "MOST_DISK_SHARE", 1e-12)
    live = check_task(path)
    assert live.forecast.internals_bytes == 0
    assert "reads each batch along" in live.warnings[0]
    assert live.forecast.seconds["teacher's inside"] > foreseen.forecast.seconds["teacher's inside"]
