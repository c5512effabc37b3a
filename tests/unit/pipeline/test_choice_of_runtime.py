"""A task's runtime: what may stand beside it, what is refused where, and which file is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgedistill.core.compression import CompressSpec
from edgedistill.core.errors import CannotApply, MissingExtra
from edgedistill.core.events import Event
from edgedistill.core.file_compression import FileCompression
from edgedistill.core.requirements import BundleRequirements
from edgedistill.core.task import DataFiles, DataSpec, TaskSpec
from edgedistill.core.teachers import ClassifierTeacher
from edgedistill.export import litert
from edgedistill.pipeline import runtimes
from edgedistill.pipeline.compression import compressing
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.runtimes import require_runtime
from edgedistill.pipeline.stages import artefact
from edgedistill.pipeline.stages.artefact import FULL, compress_and_keep, kept_file
from edgedistill.pipeline.stages.other_runtimes import litert_files
from edgedistill.pipeline.stages.variants import Variant, choose_variant, is_litert
from edgedistill.pipeline.store import Store
from edgedistill.runtime.manifest import LITERT_MODEL, MODEL

INPUTS = [{"input_ids": np.ones((1, n), np.int64)} for n in (3, 4, 9)]


def context(folder: Path, heard: list[str], runtime: str | None) -> Context[Any]:
    spec = TaskSpec(
        name="x",
        data=DataSpec(files=DataFiles(train="a.jsonl")),
        teacher=ClassifierTeacher(source="package:p"),
        compress=CompressSpec(runtime=runtime) if runtime else None,  # type: ignore[arg-type]
    )

    def listen(event: Event) -> None:
        heard.append(event.message)

    return Context(spec, folder, folder, Store(folder, listen), listen, time.monotonic() + 60)


def variant(*passes: str, size: int, accuracy: float = 0.9, p50: float = 1.0) -> Variant:
    return Variant(passes, size, accuracy, 1.0, p50, p50)


def test_passes_over_an_onnx_file_and_another_runtime_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="runtime: int8_tables is a pass over a file"):
        FileCompression(runtime="litert", artefact=("int8_tables",))
    with pytest.raises(ValidationError, match="runtime: group_int8 is a pass over a file"):
        CompressSpec(runtime="auto", passes=("prune_vocabulary", "group_int8"))  # type: ignore
    assert CompressSpec(runtime="auto", search={}).is_of_teacher  # type: ignore[arg-type]
    assert not CompressSpec(runtime="litert").is_of_teacher


def test_a_named_runtime_that_is_missing_is_refused_at_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "LITERT_PACKAGES", ("no_such_package_at_all",))
    task = tmp_path / "task.yaml"
    task.write_text("name: x\ncompress:\n  runtime: litert\n", encoding="utf-8")
    with pytest.raises(MissingExtra, match="litert-export") as caught:
        require_runtime(context(tmp_path, [], "litert").spec, task)
    assert caught.value.where == f"{task}:3"
    for fine in ("auto", "onnxruntime", None):
        require_runtime(context(tmp_path, [], fine).spec, task)


def test_one_of_several_runtimes_is_left_out_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: Any, **__: Any) -> Path:
        raise CannotApply("no such operator", fix="take another student")

    monkeypatch.setattr(litert, "write_litert", cannot)
    heard: list[str] = []
    found = litert_files(context(tmp_path, heard, "auto"), "a", None, tmp_path, INPUTS, 16)
    assert found == {}
    assert heard == ["LiteRT left out: no such operator: take another student"]
    with pytest.raises(CannotApply):
        litert_files(context(tmp_path, heard, "litert"), "a", None, tmp_path, INPUTS, 16)
    for other in ("onnxruntime", None):
        assert litert_files(context(tmp_path, heard, other), "a", None, tmp_path, INPUTS, 16) == {}


@pytest.mark.parametrize(
    ("counts", "most", "expected"),
    [
        ([3, 4, 9], 16, (4, 9, 16)),
        ([5], 64, (5, 64)),
        ([80, 90], 64, (64,)),
        ([2] * 99 + [60], 64, (2, 64)),
    ],
)
def test_lengths_follow_the_texts(
    counts: list[int], most: int, expected: tuple[int, ...]
) -> None:  # fmt: skip
    assert litert.lengths_for(counts, most) == expected


def test_files_of_both_runtimes_are_kept_by_one_rule() -> None:
    full, onnx = variant(size=100), variant("int8_tables", size=30)
    lite, exact = variant("litert_int8", size=30, p50=0.5), variant("litert_float", size=100)
    required = BundleRequirements()

    def kept(*variants: Variant, **only: bool) -> tuple[str, ...]:
        return next(v.passes for v in choose_variant(variants, required, **only) if v.kept)

    assert kept(full, onnx, lite, exact) == ("litert_int8",)
    assert kept(full, onnx, variant("litert_int8", size=30, p50=2.0)) == ("int8_tables",)
    # A file for another runtime is there to compare with, however small it is.
    assert kept(full, variant("int8_tables", size=9), lite, only_litert=True) == ("litert_int8",)
    lossy = variant("litert_int8", size=30, accuracy=0.5)
    assert kept(full, lossy, exact, only_litert=True) == ("litert_float",)


def test_the_file_that_is_kept_has_its_runtime_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FULL).write_bytes(b"x" * 90)
    other = tmp_path / "litert_int8.tflite"
    other.write_bytes(b"\x1c\0\0\0TFL3" + b"y" * 30)
    measured: list[tuple[str, ...]] = []

    def measure(files: Mapping[tuple[str, ...], Path]) -> list[Variant]:
        measured.extend(files)
        return [variant(*passes, size=f.stat().st_size) for passes, f in files.items()]

    def no_pass(*_: Any, **__: Any) -> Any:
        raise AssertionError("no pass over an ONNX file is tried where none may ship")

    monkeypatch.setattr(artefact, "apply_passes", no_pass)
    files = {("litert_int8",): other}
    best = compress_and_keep(
        context(tmp_path, [], "litert"), "a", tmp_path, [], measure, b"", None, files
    )
    assert measured == [(), ("litert_int8",)]
    assert is_litert(best.passes)
    assert best.bytes_by_pass == (kept_file(tmp_path).stat().st_size,)
    assert kept_file(tmp_path) == tmp_path / LITERT_MODEL
    assert {f.name for f in tmp_path.iterdir() if f.suffix in (".onnx", ".tflite")} == {
        FULL, LITERT_MODEL,
    }  # fmt: skip
    assert not (tmp_path / MODEL).exists()


def test_the_command_compress_keeps_the_file_s_runtime(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("name: x\ncompress: {runtime: auto}\n", encoding="utf-8")
    alone = compressing(task, "package:p")["compress"]
    assert CompressSpec(**alone).is_of_teacher
    assert alone["runtime"] == "auto"
    assert compressing(task, "package:p", recipes=["fast"])["compress"] == {
        "runtime": "auto", "recipes": ["fast"],
    }  # fmt: skip
    task.write_text("name: x\ncompress: fast\n", encoding="utf-8")
    assert compressing(task, "package:p")["compress"] == "fast"


def test_a_trial_for_another_runtime_alone_measures_all_of_its_files(tmp_path: Path) -> None:
    """The smallest may lose answers, and no ONNX file is there to take its place."""
    others = {}
    (tmp_path / FULL).write_bytes(bytes(4000))
    for name, size in (("litert_float", 4100), ("litert_int4", 1000)):
        others[(name,)] = tmp_path / f"{name}.tflite"
        others[(name,)].write_bytes(bytes(size))

    def measure(files: Mapping[tuple[str, ...], Path]) -> list[Variant]:
        return [
            variant(*p, size=f.stat().st_size, accuracy=0.5 if p == ("litert_int4",) else 0.9)
            for p, f in files.items()
        ]

    best = compress_and_keep(
        context(tmp_path, [], "litert"), "artefact", tmp_path, [], measure, b"", others=others,
        is_trial=True,
    )  # fmt: skip
    assert best.passes == ("litert_float",)
    assert kept_file(tmp_path).name == LITERT_MODEL
