"""The exported file: its interface, its size, its answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgedistill.core.artefacts import Encoded
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.inference import model_outputs
from edgedistill.models.teachers.encoder import EncoderClassifier, new_classifier

PAD = 0
# Of one token, of many, and in an order that is not that of their lengths.
TEXTS = Encoded.from_lists([[2, 60, 61, 3], [2, 3], [60], list(range(2, 42)), [2, 70, 3]])


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> EncoderClassifier:
    torch.manual_seed(0)
    return new_classifier(teacher_folder, 3)


@pytest.fixture(scope="module")
def exported(teacher: EncoderClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("export") / "new folder" / "teacher.onnx"
    return OnnxExporter().write(teacher.train(), to=target)


def test_answers_are_those_of_the_module_in_its_order(
    teacher: EncoderClassifier, exported: Path
) -> None:
    logits, features = OnnxExporter().run(exported, TEXTS, PAD)
    expected_logits, expected_features = model_outputs(teacher, TEXTS, pad_id=PAD)
    np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(features, expected_features, rtol=0, atol=1e-5)
    assert len(np.unique(logits.round(5), axis=0)) == len(TEXTS)


def test_dropout_is_off_in_the_file_though_the_module_was_training(
    teacher: EncoderClassifier, exported: Path
) -> None:
    assert not teacher.training
    first, second = (OnnxExporter().run(exported, TEXTS, PAD)[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_one_file_with_named_inputs_outputs_and_free_axes(exported: Path) -> None:
    assert [file.name for file in exported.parent.iterdir()] == ["teacher.onnx"]
    graph = onnx.load(exported).graph
    assert [value.name for value in graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in graph.output] == ["logits", "features"]
    for value in graph.input:
        assert value.type.tensor_type.elem_type == onnx.TensorProto.INT64
        axes = [axis.dim_param for axis in value.type.tensor_type.shape.dim]
        assert axes == ["batch", "sequence"]
    onnx.checker.check_model(onnx.load(exported))


def test_nothing_of_the_source_code_travels_along(exported: Path) -> None:
    model = onnx.load(exported)
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert b"/src/edgedistill" not in exported.read_bytes()
    assert b"site-packages" not in exported.read_bytes()


def test_the_file_is_hardly_larger_than_its_weights(
    teacher: EncoderClassifier, exported: Path
) -> None:
    weights = sum(p.numel() * p.element_size() for p in teacher.parameters())
    assert weights < exported.stat().st_size < weights + 60_000
