"""The files that the benchmark of compression measures, on a small trained network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgedistill.core.artefacts import Encoded
from edgedistill.models.students.family import Material

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PAD = 0


@pytest.fixture(scope="module")
def files() -> Iterator[ModuleType]:
    """The benchmark's module, which imports others as scripts do."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("compression_files")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def made(
    files: ModuleType, trained_file: Callable[[str], Path], material: Material, tmp_path: Path
) -> Mapping[str, Path]:
    """Every sequence over a trained student, and the peer."""
    texts: Encoded = material.train
    padded = (texts.padded(np.array([row]), PAD) for row in range(20))
    calibration = [{"input_ids": ids, "attention_mask": mask} for ids, mask in padded]
    found: Mapping[str, Path] = files.make_files(trained_file("truncated"), tmp_path, calibration)
    return found


def test_palettes_take_the_bytes_that_arithmetic_says(
    files: ModuleType, trained_file: Callable[[str], Path], made: Mapping[str, Path]
) -> None:
    full = trained_file("truncated")
    for name, num_colours in files.PALETTES.items():
        computed = files.computed_bytes(full, num_colours)
        # The rest are operators and names, some 60 KB of this network.
        assert 0 <= made[name].stat().st_size - computed < 60_000
        assert computed < full.stat().st_size


def test_every_file_and_the_peer_are_smaller(
    files: ModuleType, trained_file: Callable[[str], Path], made: Mapping[str, Path]
) -> None:
    assert set(made) == {files.PEER, *files.SEQUENCES}
    whole = trained_file("truncated").stat().st_size
    assert all(file.stat().st_size < 0.5 * whole for file in made.values())
