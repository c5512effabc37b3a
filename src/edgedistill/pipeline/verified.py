"""What every kind of task ends in: the verdict, and a folder with bundle and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.artefacts import Judgement
from edgedistill.core.files import read_json, write_json, write_text
from edgedistill.evaluate.report.content import ReportContent
from edgedistill.evaluate.verdict import reasons, ships
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


def write_verdict(
    folder: Path,
    content: ReportContent,
    judgements: Sequence[Judgement],
    measurements: Mapping[str, Any],
) -> None:
    """Write the report in its three forms, and what `read_verdict` reads."""
    from edgedistill.evaluate.report.html import render_html
    from edgedistill.evaluate.report.markdown import render_markdown

    write_json(folder / "report.json", content.as_json())
    write_text(folder / "report.html", render_html(content))
    write_text(folder / "report.md", render_markdown(content))
    write_json(
        folder / VERDICT,
        {"judgements": [asdict(j) for j in judgements], "measurements": measurements},
    )


def read_verdict(stage: StageResult) -> Verified:
    """The verdict of a finished verification."""
    verdict = read_json(stage.folder / VERDICT)
    judgements = tuple(Judgement(**row) for row in verdict["judgements"])
    return Verified(
        stage, ships(judgements), judgements, reasons(judgements), verdict["measurements"]
    )
