"""Passes that a task file names are made as named; those that are tried may have nothing to do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill.core.compression import CompressSpec
from edgedistill.core.errors import CannotApply
from edgedistill.core.events import Event
from edgedistill.core.task import DataFiles, DataSpec, TaskSpec
from edgedistill.core.teachers import ClassifierTeacher
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.artefact import FULL, compress_and_keep
from edgedistill.pipeline.stages.variants import Variant, read_variants, share_of_int8
from edgedistill.pipeline.store import Store
from edgedistill.runtime.manifest import MODEL

RNG = np.random.default_rng(0)
Files = Mapping[tuple[str, ...], Path]


def context(folder: Path, heard: list[str], *passes: str) -> Context:
    spec = TaskSpec(
        name="x",
        data=DataSpec(files=DataFiles(train="a.jsonl")),
        teacher=ClassifierTeacher(source="package:p"),
        compress=CompressSpec(artefact=passes) if passes else None,
    )

    def listen(event: Event) -> None:
        heard.append(event.message)

    return Context(spec, folder, folder, Store(folder, listen), listen, time.monotonic() + 60)


def table_model(folder: Path) -> Path:
    """Rows of a table, and nothing else that a pass could take."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"])], "table",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(RNG.normal(size=(400, 64)).astype(np.float32), "table")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / FULL)
    return folder / FULL


def measure(files: Files) -> list[Variant]:
    """Every smaller file costs more than may be lost."""
    return [
        Variant(passes, file.stat().st_size, 0.9 if not passes else 0.5, 1.0, 1.0, 1.0)
        for passes, file in files.items()
    ]


def test_named_passes_ship_even_where_trying_would_have_declined_them(tmp_path: Path) -> None:
    full = table_model(tmp_path)
    best = compress_and_keep(
        context(tmp_path, [], "int4_tables"), "artefact", tmp_path, [], measure, b""
    )
    assert best.passes == ("int4_tables",)
    assert (tmp_path / MODEL).stat().st_size < 0.2 * full.stat().st_size
    assert [(v.passes, v.kept) for v in read_variants(tmp_path)] == [
        ((), False),
        (("int4_tables",), True),
    ]
    assert {file.name for file in tmp_path.glob("*.onnx")} == {FULL, MODEL}


def test_a_named_pass_with_nothing_to_do_stops_the_run(tmp_path: Path) -> None:
    table_model(tmp_path)
    named = context(tmp_path, [], "int8_tables", "awq_int4")
    texts = [{"ids": np.arange(3)}] * 20
    with pytest.raises(CannotApply) as caught:
        compress_and_keep(named, "artefact", tmp_path, texts, measure, b"")
    assert caught.value.where == "compress.artefact.1"
    assert str(caught.value).startswith("compress.artefact.1: awq_int4: no matrix products")
    assert caught.value.exit_code == 4


def test_of_sequences_that_are_tried_idle_passes_are_left_out(tmp_path: Path) -> None:
    table_model(tmp_path)
    heard: list[str] = []
    tried: list[tuple[str, ...]] = []

    def listed(files: Files) -> list[Variant]:
        tried.extend(files)
        return measure(files)

    best = compress_and_keep(context(tmp_path, heard), "artefact", tmp_path, [], listed, b"")
    assert best.passes == ()
    # The sequences that differ in idle passes alone are one.
    assert len(set(tried)) == len(tried)
    assert {name for passes in tried for name in passes} <= {
        "float16_tables", "int8_tables", "int4_tables", "palette_16", "palette_256",
    }  # fmt: skip
    assert any("weight_int8 left out: no matrices beside tables" in message for message in heard)


def test_a_size_forecast_follows_the_passes_that_are_named() -> None:
    assert share_of_int8(()) == share_of_int8(("int8_tables", "dynamic_int8")) == 1.0
    assert share_of_int8(("palette_256",)) == 1.0
    for passes in (("palette_16",), ("int4_tables", "dynamic_int8"), ("awq_int4",)):
        assert 0.5 < share_of_int8(passes) < 0.7
    for passes in (("bfloat16_weights",), ("float16_tables", "float16_weights")):
        assert share_of_int8(passes) == 2.0
    assert share_of_int8(("int8_tables", "float16_weights")) == 1.0


@pytest.mark.parametrize("serves", [True, False], ids=["the smallest serves", "it does not"])
def test_a_trial_measures_what_it_must(tmp_path: Path, serves: bool) -> None:
    """Of tables in 16, eight and four bits the last is smallest; if it loses answers, all count."""
    asked = list[list[tuple[str, ...]]]()

    def read(files: Files) -> list[Variant]:
        asked.append(list(files))
        return [
            Variant(
                passes, file.stat().st_size,
                0.5 if passes == ("int4_tables",) and not serves else 0.9, 1.0, 1.0, 1.0,
            )
            for passes, file in files.items()
        ]  # fmt: skip

    table_model(tmp_path)
    best = compress_and_keep(
        context(tmp_path, []), "artefact", tmp_path, [], read, b"", is_trial=True
    )
    assert asked[0] == [(), ("int4_tables",)]
    assert best.passes == (("int4_tables",) if serves else ("int8_tables",))
    assert len(asked) == (1 if serves else 2)
    assert [v.passes for v in read_variants(tmp_path)] == asked[-1]
    assert {file.name for file in tmp_path.glob("*.onnx")} == {FULL, MODEL}
