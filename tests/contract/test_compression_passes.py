"""What every compression pass promises, on a trained student of every family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from edgedistill.compress.passes import PASSES, SEQUENCES
from edgedistill.core.artefacts import Encoded
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.families import FAMILIES
from edgedistill.models.students.family import Material
from edgedistill.runtime.session import Session

PAD = 0
LEAST_AGREEMENT = 0.95
#: A pass that finds nothing to do may add this much (operators, scales, names).
MOST_OVERHEAD_BYTES = 6_000

TrainedFile = Callable[[str], Path]
HeldOut = tuple[Encoded, np.ndarray]


def answers(file: Path, texts: Encoded) -> np.ndarray:
    """Label indices of the file, one text at a time."""
    logits, features = OnnxExporter().run(file, texts, PAD)
    assert np.isfinite(logits).all()
    assert np.isfinite(features).all()
    return np.asarray(logits.argmax(1))


@pytest.fixture(scope="session")
def calibration(material: Material) -> list[Mapping[str, np.ndarray]]:
    """The first training texts as inputs of the graph."""
    padded = (material.train.padded(np.array([row]), PAD) for row in range(60))
    return [{"input_ids": ids, "attention_mask": mask} for ids, mask in padded]


def test_there_are_passes_and_every_sequence_names_them() -> None:
    assert len(PASSES) >= 5
    assert SEQUENCES[0] == ()
    named = {name for sequence in SEQUENCES for name in sequence}
    assert named == set(PASSES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_students_have_something_to_lose(
    trained_file: TrainedFile, held_out: HeldOut, family: str
) -> None:
    texts, targets = held_out
    assert (answers(trained_file(family), texts) == targets).mean() > 0.8


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PASSES)
def test_a_pass_keeps_the_answers_and_its_argument(
    trained_file: TrainedFile,
    held_out: HeldOut,
    calibration: list[Mapping[str, np.ndarray]],
    tmp_path: Path,
    kind: str,
    family: str,
) -> None:
    full, texts = trained_file(family), held_out[0]
    before = full.read_bytes()
    made = PASSES.load(kind)
    given = calibration if made.needs_calibration else []
    small = made()(full, to=tmp_path / "small.onnx", calibration=given)
    assert small == tmp_path / "small.onnx"
    assert full.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]
    assert small.stat().st_size <= len(before) + MOST_OVERHEAD_BYTES
    assert (answers(small, texts) == answers(full, texts)).mean() >= LEAST_AGREEMENT


@pytest.mark.parametrize("kind", PASSES)
def test_a_pass_saves_bytes_somewhere(
    trained_file: TrainedFile,
    calibration: list[Mapping[str, np.ndarray]],
    tmp_path: Path,
    kind: str,
) -> None:
    shares = []
    for family in ("static", "truncated"):
        full = trained_file(family)
        small = PASSES.load(kind)()(full, to=tmp_path / f"{family}.onnx", calibration=calibration)
        shares.append(small.stat().st_size / full.stat().st_size)
    assert min(shares) < 0.8


@pytest.mark.parametrize("sequence", SEQUENCES, ids="+".join)
def test_sequences_compose(
    trained_file: TrainedFile,
    held_out: HeldOut,
    calibration: list[Mapping[str, np.ndarray]],
    tmp_path: Path,
    sequence: tuple[str, ...],
) -> None:
    full, texts = trained_file("truncated"), held_out[0]
    current = full
    for name in sequence:
        current = PASSES.load(name)()(
            current, to=tmp_path / f"{name}.onnx", calibration=calibration
        )
    assert (answers(current, texts) == answers(full, texts)).mean() >= LEAST_AGREEMENT
    assert current.stat().st_size <= full.stat().st_size


@pytest.mark.parametrize("kind", [kind for kind in PASSES if kind != "dynamic_int8"])
def test_company_changes_nothing_but_for_dynamic_scales(
    trained_file: TrainedFile,
    held_out: HeldOut,
    calibration: list[Mapping[str, np.ndarray]],
    tmp_path: Path,
    kind: str,
) -> None:
    full, texts = trained_file("truncated"), held_out[0]
    small = PASSES.load(kind)()(full, to=tmp_path / "small.onnx", calibration=calibration)
    session = Session(small.read_bytes())
    together, _ = session.run(*texts.padded(np.arange(len(texts)), PAD))
    alone = np.concatenate(
        [session.run(*texts.padded(np.array([row]), PAD))[0] for row in range(len(texts))]
    )
    # Sums of floats are taken in another order, and an INT8 value may round the other way.
    tolerance = 0.1 if kind == "static_int8" else 1e-4
    np.testing.assert_allclose(alone, together, rtol=0, atol=tolerance)
    assert (alone.argmax(1) == together.argmax(1)).mean() >= 0.99
