"""The small bundle on the disk and in memory, for the tests of the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.classification import Classifier
from small_bundle import make_bundle, make_classifier


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A fresh bundle folder that a test may damage."""
    return make_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """A classifier of the small bundle."""
    return make_classifier()
