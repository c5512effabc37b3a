"""What every compression pass promises, on a trained student of every family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter
from torch import nn

from edgedistill.compress.passes import PASSES, SEQUENCES
from edgedistill.compress.sequence import apply_passes
from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import CannotApply
from edgedistill.core.file_passes import FilePass, FilePasses
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.families import FAMILIES
from edgedistill.models.students.bert_blocks import LabellingTagger
from edgedistill.models.students.family import Material
from edgedistill.runtime.session import Session

PAD = 0
LEAST_AGREEMENT = 0.95
#: Of passes that keep four bits a weight or leave half of them out, before anything is trained.
COARSE = {
    "int4_tables": 0.9, "group_int4": 0.85, "awq_int4": 0.85, "gptq_int4": 0.9,
    "mixed_int4_int8": 0.85, "palette_16": 0.85, "sparse_half": 0.6, "sparse_two_of_four": 0.6,
}  # fmt: skip
#: How far outputs may be off, relative to their norm: what one matrix of normal weights loses. FP16
#: keeps 11 bits, bfloat16 8; INT8 by rows errs by its step of 2 · 3 σ / 254 over √12, twice that
#: with fixed ranges of activations on top; four bits by 2 · 2.1 σ / 15 over √12, in groups of 32;
#: what is set to zero, the smaller half or that of every four, has 7 % or 9 % of the squares.
MOST_ERROR = {
    "float16": 2**-11, "bfloat16": 2**-8, "int8": 0.007, "static": 0.03, "four bits": 0.08,
    "sparse": 0.3,
}  # fmt: skip
FOUR_BITS = ("int4_tables", "group_int4", "awq_int4", "gptq_int4", "mixed_int4_int8", "palette_16")
#: A pass that finds nothing to do may add this much (operators, scales, names).
MOST_OVERHEAD_BYTES = 6_000

#: Families whose files have nothing for a pass to take.
NOTHING_TO_DO: dict[str, tuple[str, ...]] = {
    "int4_tables": ("linear",),  # five columns
    "dynamic_int8": ("linear", "static"),  # products are Gemm
    "mixed_int4_int8": ("linear", "static"),  # one layer
    **dict.fromkeys(
        (
            "static_int8", "static_int8_entropy", "static_int8_percentile", "group_int8",
            "group_int4", "awq_int4", "gptq_int4", "weight_int8", "float16_weights",
            "bfloat16_weights", "sparse_half", "sparse_two_of_four",
        ),
        ("linear",),  # tables alone
    ),
}  # fmt: skip

TrainedFile = Callable[[str], Path]
Build = Callable[[str, str], nn.Module]
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
    assert len(PASSES) >= 19
    assert set(get_args(FilePass)) == set(PASSES)
    assert SEQUENCES[0] == ()
    order = TypeAdapter(FilePasses)
    for sequence in SEQUENCES[1:]:
        assert order.validate_python(sequence) == sequence


@pytest.mark.parametrize("family", FAMILIES)
def test_the_students_have_something_to_lose(
    trained_file: TrainedFile, held_out: HeldOut, family: str
) -> None:
    texts, targets = held_out
    assert (answers(trained_file(family), texts) == targets).mean() > 0.8


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", PASSES)
def test_a_pass_keeps_the_answers_and_its_argument_or_says_why_not(
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
    if family in NOTHING_TO_DO.get(kind, ()):
        with pytest.raises(CannotApply) as caught:
            made()(full, to=tmp_path / "small.onnx", calibration=given)
        assert caught.value.fix
        assert list(tmp_path.iterdir()) == []
        return
    small = made()(full, to=tmp_path / "small.onnx", calibration=given)
    assert small == tmp_path / "small.onnx"
    assert full.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]
    assert small.stat().st_size <= len(before) + MOST_OVERHEAD_BYTES
    least = COARSE.get(kind, LEAST_AGREEMENT)
    assert (answers(small, texts) == answers(full, texts)).mean() >= least


@pytest.mark.parametrize("kind", PASSES)
def test_a_second_time_a_pass_says_that_nothing_is_left(
    trained_file: TrainedFile,
    calibration: list[Mapping[str, np.ndarray]],
    tmp_path: Path,
    kind: str,
) -> None:
    made = PASSES.load(kind)()
    once = made(trained_file("truncated"), to=tmp_path / "once.onnx", calibration=calibration)
    with pytest.raises(CannotApply, match="an earlier pass took them"):
        made(once, to=tmp_path / "twice.onnx", calibration=calibration)
    assert not (tmp_path / "twice.onnx").exists()


@pytest.mark.parametrize("num", [0, 1, 3])
@pytest.mark.parametrize("kind", [k for k in PASSES if PASSES.load(k).needs_calibration])
def test_too_few_calibration_texts_are_refused(
    trained_file: TrainedFile,
    calibration: list[Mapping[str, np.ndarray]],
    tmp_path: Path,
    kind: str,
    num: int,
) -> None:
    given = {0: "an empty calibration set", 1: "of one text", 3: "3 calibration texts"}[num]
    with pytest.raises(CannotApply, match=given):
        PASSES.load(kind)()(
            trained_file("truncated"), to=tmp_path / "small.onnx", calibration=calibration[:num]
        )


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
        made = apply_passes([kind], full, tmp_path, calibration)
        shares.append(made.file.stat().st_size / full.stat().st_size)
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
    made = apply_passes(sequence, full, tmp_path, calibration)
    assert made.passes == sequence
    current = made.file
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
    tolerance = 0.1 if "int8" in kind or "int4" in kind else 1e-4
    np.testing.assert_allclose(alone, together, rtol=0, atol=tolerance)
    assert (alone.argmax(1) == together.argmax(1)).mean() >= 0.99


def rounding_of(kind: str) -> str:
    """The kind of error that a pass makes, as `MOST_ERROR` names them."""
    if kind in FOUR_BITS:
        return "four bits"
    first = kind.split("_")[0]
    return first if first in MOST_ERROR else "int8"


@pytest.fixture(scope="session")
def tagger_file(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tagger with a label of whole texts, as extraction exports it: three tags for
    every token, two values for the text."""
    model = LabellingTagger.split(build("small_transformer", "2x192"), 3)
    return OnnxExporter().write(model, to=tmp_path_factory.mktemp("tagger") / "model.onnx")


@pytest.mark.parametrize("kind", PASSES)
def test_a_pass_keeps_what_a_tagger_says_of_tokens_and_texts(
    tagger_file: Path,
    held_out: HeldOut,
    calibration: list[Mapping[str, np.ndarray]],
    tmp_path: Path,
    kind: str,
) -> None:
    made = PASSES.load(kind)()
    small = made(tagger_file, to=tmp_path / "small.onnx", calibration=calibration[:12])
    assert small.stat().st_size < tagger_file.stat().st_size
    full, ours = Session(tagger_file.read_bytes()), Session(small.read_bytes())
    said: list[list[np.ndarray]] = [[], []]
    for row in range(5):
        ids, mask = held_out[0].padded(np.array([row]), PAD)
        for session, outputs in zip((full, ours), said, strict=True):
            outputs += session.run_all(ids, mask)
    assert [output.shape for output in said[0]] == [output.shape for output in said[1]]
    # What is random tells classes apart by little: outputs are compared, not answers.
    expected, found = (np.concatenate([o.ravel() for o in outputs]) for outputs in said)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 0 < error <= MOST_ERROR[rounding_of(kind)]
