"""What every kind of task ends in: the verdict, and a folder with bundle and report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgedistill.core.artefacts import Judgement
from edgedistill.pipeline.store import StageResult

BUNDLE = "bundle"
ARCHIVE = "bundle.edb"
VERDICT = "verdict.json"
ANSWERS = "answers.npz"


@dataclass(frozen=True)
class Verified:
    """The verdict, and the folder with bundle, archive and report."""

    stage: StageResult
    ships: bool
    judgements: tuple[Judgement, ...]
    reasons: tuple[str, ...]
    measurements: dict[str, Any]
