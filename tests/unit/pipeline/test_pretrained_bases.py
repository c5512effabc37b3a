"""A pretrained model that a task names is used as it should be, or refused before any training."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

import small_llama
import small_pretrained
from edgedistill.core.errors import EdgeDistillError, MissingExtra, ModelError, SpecError
from edgedistill.core.events import silent
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.core.task_file import load_task
from edgedistill.models.language.llama import load_model
from edgedistill.pipeline.check import check_task
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.dataset import prepare_conversations
from edgedistill.pipeline.generation.pretrained import find_bases
from edgedistill.pipeline.generation.student import Ground, train_student
from edgedistill.pipeline.generation.teacher import Teacher, prepare_teacher
from edgedistill.pipeline.generation.teacher_texts import prepare_texts
from edgedistill.pipeline.generation.transfer import prepare_transfer
from edgedistill.pipeline.store import Store

TRAINING = {"num_epochs": 1, "batch_tokens": 2048}
SHAPE = {"num_heads": 4, "num_kv_heads": 2, "hidden_size": 64, "num_layers": 2,
         "intermediate_size": 96}  # fmt: skip


def write_task(folder: Path, source: str, **changes: Any) -> Path:
    """The small task, with a student of random weights."""
    student = {"shape": SHAPE, "training": TRAINING}
    return small_pretrained.write_task(folder, source, **{"student": student} | changes)


def write_model(folder: Path, **changes: Any) -> Path:
    """A small Llama of random weights, as transformers saves it, with begin and end marks."""
    folder.mkdir()
    model = small_llama.make_model(
        **{"max_position_embeddings": 256, "initializer_range": 0.05} | changes
    )
    model.save_pretrained(folder)
    tokenizer = small_llama.make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    marks = {"bos_token": "<|begin|>", "eos_token": "<|finish|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(marks))
    return folder


def edit_json(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def to_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def to_adapters(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "other/base"}')


def more_ids(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["one", "more"])
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("change", "task", "what"),
    [
        (edit_json("config.json", model_type="gpt2"), {}, "'gpt2' model is no Llama"),
        (edit_json("config.json", attention_bias=True), {}, "attention_bias is not translated"),
        (edit_json("config.json", max_position_embeddings=100), {}, "made for 100 tokens"),
        (edit_json("config.json", hidden_size=None), {}, "missing or wrong"),
        (more_ids, {}, "ids reach 401, the model has 400"),
        (to_pickle, {}, "pickle checkpoint"),
        (to_adapters, {}, "adapters of other/base, not a model"),
        (shutil.rmtree, {}, "no such model folder"),
        (lambda _: None, {"template": "llama3"}, r"lacks <\|begin_of_text\|>.*tokenizer"),
        (edit_json("tokenizer_config.json", eos_token=None), {}, "neither a chat template nor"),
        (edit_json("tokenizer_config.json", chat_template="{% if %}"), {}, "cannot be rendered"),
        (
            lambda _: None,
            {"student": {"initialise": "teacher", "shape": SHAPE | {"intermediate_size": 97}}},
            "student.shape.*intermediate_size is 96",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_by_check(
    change: Callable[[Path], None], task: dict[str, Any], what: str, tmp_path: Path
) -> None:
    change(write_model(tmp_path / "base"))
    path = write_task(tmp_path, "base", **task)
    with pytest.raises(EdgeDistillError) as told:
        check_task(path)
    assert re.search(what, str(told.value), re.DOTALL), str(told.value)


@pytest.mark.parametrize(
    ("teacher", "changes", "what"),
    [
        ({"shape": SHAPE}, {}, "shape are a new teacher's"),
        ({"vocabulary_size": 300}, {}, "vocabulary_size are a new teacher's"),
        ({"adapters": {}, "training": {"num_epochs": 0}}, {}, "at least one epoch"),
        ({"adapters": {"targets": ["c_attn"]}}, {}, "q_proj"),
        ({"source": "new", "adapters": {}}, {}, "need a pretrained teacher"),
        ({"source": "new", "training": {"num_epochs": 0}}, {}, "needs a pretrained teacher"),
        ({"source": "new"}, {}, "template tokenizer needs a pretrained teacher"),
        ({"source": "new"}, {"template": "plain", "student": {"source": "x"}}, "student.source"),
        ({}, {"student": {"source": "x", "shape": SHAPE}}, "source brings its own shape"),
        ({}, {"student": {"training": {"num_epochs": 0}}}, "a student has to be trained"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    teacher: dict[str, Any], changes: dict[str, Any], what: str, tmp_path: Path
) -> None:
    path = write_task(tmp_path, "base", teacher=teacher, **changes)
    with pytest.raises(SpecError, match=what):
        load_task(path)


def context_of(path: Path) -> Context[GenerationSpec]:
    spec = load_task(path)
    assert isinstance(spec, GenerationSpec)
    store = Store(path.parent / "store", silent)
    return Context(spec, path.parent, path.parent, store, silent, float("inf"))


def taught(path: Path) -> tuple[Context[GenerationSpec], Any, Teacher]:
    context = context_of(path)
    data = prepare_conversations(context)
    bases = find_bases(context.spec, context.root, data.rows.train)
    return context, data, prepare_teacher(context, data, bases.teacher)


def same(first: LlamaForCausalLM, second: LlamaForCausalLM) -> dict[str, bool]:
    there = second.state_dict()
    return {name: torch.equal(t, there[name]) for name, t in first.state_dict().items()}


def test_a_teacher_without_epochs_is_used_as_it_is(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    path = write_task(tmp_path, "base", teacher={"training": {"num_epochs": 0}})
    _, _, teacher = taught(path)
    assert all(same(load_model(base), teacher.load()).values())
    assert teacher.training["history"] == []
    assert (teacher.tokenizer.bos, teacher.tokenizer.end) == (small_llama.BOS, small_llama.EOS)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_adapters_move_their_targets_and_the_marks_alone(precision: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    asked = {
        "adapters": {"rank": 2, "targets": ["q_proj", "down_proj"]},
        "training": TRAINING | {"precision": precision, "learning_rate": 1e-2},
    }
    _, _, teacher = taught(write_task(tmp_path, "folder:base", teacher=asked))
    before, after = load_model(base), teacher.load()
    if precision == "bf16":
        before = before.to(torch.bfloat16).float()
    moved = {name for name, equal in same(before, after).items() if not equal}
    assert {name.split(".")[-2] for name in moved} == {
        "q_proj", "down_proj", "embed_tokens", "lm_head",
    }  # fmt: skip
    rows = (before.model.embed_tokens.weight != after.model.embed_tokens.weight).any(1)
    assert rows.nonzero()[:, 0].tolist() == [small_llama.BOS, small_llama.EOS]


def test_a_pretrained_student_learns_from_its_teacher(tmp_path: Path) -> None:
    write_model(tmp_path / "base")
    write_model(tmp_path / "small", width=32)
    path = write_task(
        tmp_path, "base", teacher={"training": TRAINING},
        student={"source": "small", "training": TRAINING},
    )  # fmt: skip
    context, data, teacher = taught(path)
    bases = find_bases(context.spec, context.root, data.rows.train)
    transfer = prepare_transfer(context, teacher, prepare_texts(context, data, teacher))
    student = train_student(Ground(context, data, teacher, transfer, bases.student))
    assert student.config["hidden_size"] == 32
    start = load_model(tmp_path / "small").model.layers[0].mlp.up_proj.weight
    end = student.load().model.layers[0].mlp.up_proj.weight
    assert 0 < float((end - start).detach().abs().max()) < 0.01  # it began there


def test_another_vocabulary_is_a_mismatch_that_says_where(tmp_path: Path) -> None:
    write_model(tmp_path / "base")
    small = write_model(tmp_path / "small", width=32)
    path = write_task(tmp_path, "base", student={"source": "small", "training": TRAINING})
    file = small / "tokenizer.json"
    file.write_text(file.read_text().replace("<|finish|>", "<|over|>"))
    with pytest.raises(ModelError, match="vocabulary mismatch: 2 tokens differ") as told:
        check_task(path)
    assert "'<|finish|>' is 1 for the teacher and unknown for the student" in str(told.value)
    shutil.rmtree(small)
    write_model(small, width=32, vocab_size=420)
    with pytest.raises(ModelError, match="400 rows of embeddings, the student 420"):
        check_task(path)


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    whole = load_model(base)
    (base / "model.safetensors").unlink()
    whole.save_pretrained(base, max_shard_size="100KB")
    assert len(list(base.glob("*.safetensors"))) > 1
    path = write_task(tmp_path, "base", teacher={"training": {"num_epochs": 0}})
    _, _, teacher = taught(path)
    assert all(same(whole, teacher.load()).values())
    next(base.glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match=r"is missing, which model\.safetensors\.index\.json"):
        check_task(path)


def test_quantised_adapters_need_their_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "base")
    path = write_task(tmp_path, "base", teacher={"adapters": {"quantised": True}})
    monkeypatch.setattr("edgedistill.pipeline.generation.pretrained.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="4 bits"):
        check_task(path)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_quantised_adapters_are_added_to_the_base_of_4_bits(precision: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    base = write_model(tmp_path / "base", intermediate_size=128)
    asked = {
        "adapters": {"rank": 2, "targets": ["q_proj"], "quantised": True},
        "training": TRAINING | {"precision": precision, "learning_rate": 1e-2},
    }
    _, _, teacher = taught(write_task(tmp_path, "base", teacher=asked))
    before, after = load_model(base).state_dict(), teacher.load().state_dict()
    for name, weight in after.items():
        change = (weight - before[name]).norm() / before[name].norm()
        if ".mlp." in name:  # no adapter: rounded to 4 bits, and nothing else
            assert 0.01 < change < 0.2, name
            assert len(weight[0].unique()) <= 2 * 16, name
    assert torch.equal(after["model.norm.weight"], before["model.norm.weight"])
    assert len(teacher.training["history"]) == 1


def test_rows_that_blocks_do_not_divide_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    write_model(tmp_path / "base")
    asked = {"adapters": {"quantised": True}, "training": TRAINING}
    with pytest.raises(ModelError, match="rows of 96 weights"):
        taught(write_task(tmp_path, "base", teacher=asked))
