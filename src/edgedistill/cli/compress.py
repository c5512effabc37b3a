"""The command compress: a fine-tuned classifier or tagger, made smaller and faster without a
student."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.progress import listener_for
from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import MissingExtra, VerificationFailed

# Loaded when the command runs, so that --help stays quick and needs no packages of the factory.
ENTRIES = Catalogue("command", {"compress": "edgedistill.pipeline.compression:compress_model"})


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(rich_help_panel="Factory (needs edgedistill[train])")(compress)


def compress(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder of a fine-tuned classifier of texts or of tokens (safetensors), "
            "hub:ORG/NAME or package:NAME.",
            show_default=False,
        ),
    ],
    task: Annotated[
        Path,
        typer.Option(help="The task file: its data, boundary, requirements.", show_default=False),
    ],
    max_mb: Annotated[float | None, typer.Option(help="Most megabytes (10^6 bytes).")] = None,
    max_p95_ms: Annotated[
        float | None, typer.Option(help="Most milliseconds at the 95th percentile.")
    ] = None,
    retention: Annotated[
        float | None, typer.Option(help="Least share of the model's accuracy that is kept.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="A recipe to try (may stand several times); left out: as the task says."),
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Search sequences beside the recipes, too (slower).")
    ] = False,
    runs_dir: Annotated[Path, typer.Option(help="Folder for runs and what they share.")] = Path(
        "runs"
    ),
    log_json: Annotated[bool, typer.Option(help="Progress as JSON Lines on stderr.")] = False,
) -> None:
    """Compress a fine-tuned classifier without a smaller student; verified like any run.

    Sequences of passes are tried, and the smallest file that meets the requirements ships.
    Exit code 0 is SHIP, 10 is DO NOT SHIP.
    """
    if find_spec("torch") is None:
        raise MissingExtra("edgedistill compress", "train")
    try:
        entry = ENTRIES.load("compress")
    except ImportError as error:
        raise MissingExtra("edgedistill compress", "train") from error
    with listener_for(log_json=log_json) as listener:
        result = entry(
            model, task, recipes=recipe or (), search=auto, max_mb=max_mb,
            max_p95_ms=max_p95_ms, retention=retention, runs_dir=runs_dir, listener=listener,
        )  # fmt: skip
    typer.echo(result.summary())
    if not result.ships:
        raise VerificationFailed(
            "DO NOT SHIP: " + "; ".join(result.reasons), where=str(result.report)
        )
