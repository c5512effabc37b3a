"""Commands of the factory: init, check, run, report, families, schema."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from edgedistill.cli.progress import listener_for
from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import MissingExtra, SpecError, VerificationFailed
from edgedistill.core.files import storage_errors, write_text

TaskFile = Annotated[Path, typer.Argument(help="The task file (YAML).", show_default=False)]
RunsDir = Annotated[
    Path, typer.Option(help="Folder for runs and the results they share.", show_default=True)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

TASK_FILE = "task.yaml"
TemplateKind: TypeAlias = Literal["classification", "extraction"]

# Loaded when a command runs, so that --help stays quick and needs no packages of the factory.
ENTRIES = Catalogue(
    "command",
    {
        "check": "edgedistill.pipeline.check:check_task",
        "run": "edgedistill.pipeline.run:run_task",
        "families": "edgedistill.models.families:FAMILIES",
        "schema": "edgedistill.core.task_file:json_schema",
    },
)


def register(app: typer.Typer) -> None:
    """Add the factory's commands to the command line."""
    for command in (init, check, run, report, families, schema):
        app.command(rich_help_panel="Factory (needs edgedistill[train])")(command)


def init(
    folder: Annotated[Path, typer.Argument(help="New folder for the task.", show_default=False)],
    kind: Annotated[
        TemplateKind, typer.Option(help="Sort texts, or read fields out of them.")
    ] = "classification",
) -> None:
    """Make a task folder: a commented task file and a small data set to run at once.

    Tasks that write text are trained on more rows: examples/bakery is one to start from.
    """
    if folder.is_file():
        raise SpecError("this is a file", where=str(folder), fix="name a new folder")
    with storage_errors(folder):
        if folder.exists() and any(folder.iterdir()):
            raise SpecError("the folder is not empty", where=str(folder), fix="name a new folder")
        (folder / "data").mkdir(parents=True, exist_ok=True)
    template = files("edgedistill.cli") / "template" / kind
    text = (template / TASK_FILE).read_text(encoding="utf-8")
    write_text(folder / TASK_FILE, text.replace("{name}", _task_name(folder)))
    for rows in template.iterdir():
        if rows.name.endswith(".jsonl"):
            write_text(folder / "data" / rows.name, rows.read_text(encoding="utf-8"))
    path = shlex.quote(str(folder / TASK_FILE))
    typer.echo(f"{path} is ready. Next:\n  edgedistill check {path}\n  edgedistill run {path}")


def _task_name(folder: Path) -> str:
    """The folder's name as far as a task may have it."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_")
    return name[:64] or "my-task"


def check(task: TaskFile, as_json: AsJson = False) -> None:
    """Validate task, data and teacher; forecast time, memory and disk. Trains nothing."""
    result = _load("check")(task)
    expected = result.forecast
    if as_json:
        typer.echo(json.dumps({
            "inspection": result.inspection.as_json(), "forecast": expected.as_json(),
            "warnings": result.warnings,
        }, ensure_ascii=False, indent=2))  # fmt: skip
        return
    typer.echo(f"{task}: a valid {result.spec.kind} task, {result.spec.name!r}\n\nData")
    for severity, sentence in result.inspection.findings():
        typer.echo(f"  {'!' if severity == 'warning' else '·'} {sentence}")
    typer.echo("\nForecast for this machine")
    for stage, seconds in expected.seconds.items():
        typer.echo(f"  {stage:22s} {seconds / 60:6.1f} min")
    typer.echo(f"  {'whole run':22s} {expected.total_s / 60:6.1f} min of "
               f"{result.spec.budget.wall_time_minutes:g}")  # fmt: skip
    typer.echo(f"  memory about {expected.memory_bytes / 1e9:.1f} GB, "
               f"disk about {expected.disk_bytes / 1e9:.1f} GB")  # fmt: skip
    if expected.internals_bytes:
        typer.echo(f"  of which {expected.internals_bytes / 1e6:,.1f} MB for what the teacher "
                   "computes inside")  # fmt: skip
    for warning in result.warnings:
        typer.echo(f"\nwarning: {warning}")


def run(
    task: TaskFile,
    runs_dir: RunsDir = Path("runs"),
    log_json: Annotated[bool, typer.Option(help="Progress as JSON Lines on stderr.")] = False,
) -> None:
    """Make the bundle and the report. Again: continues, reusing all that stands.

    Exit code 0 is SHIP, 10 is DO NOT SHIP.
    """
    entry = _load("run")
    with listener_for(log_json=log_json) as listener:
        result = entry(task, runs_dir=runs_dir, listener=listener)
    typer.echo(result.summary())
    if not result.ships:
        raise VerificationFailed(
            "DO NOT SHIP: " + "; ".join(result.reasons), where=str(result.report)
        )


def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    as_html: Annotated[bool, typer.Option("--html", help="Print the path of the page.")] = False,
) -> None:
    """Show the report of a finished run (Markdown; --html names the self-contained page)."""
    page = run_folder / ("report.html" if as_html else "report.md")
    if not page.is_file():
        raise SpecError(
            "no finished run here", where=str(run_folder), fix="'edgedistill run TASK' makes one"
        )
    typer.echo(str(page) if as_html else page.read_text(encoding="utf-8"))


def families() -> None:
    """List the student families with their settings."""
    catalogue = _load("families")
    for name in catalogue:
        config = catalogue.load(name).config
        typer.echo(f"{name}: {(config.__doc__ or '').splitlines()[0]}")
        for field, info in config.model_fields.items():
            typer.echo(f"  {field} = {info.default!r}  {info.description or ''}")


def schema(
    kind: Annotated[
        str, typer.Option(help="Kind of task: classification, extraction or generation.")
    ] = "classification",
) -> None:
    """Print the JSON Schema of the task file, for editors."""
    json.dump(_load("schema")(kind), sys.stdout, indent=2)
    sys.stdout.write("\n")


def _load(entry: str) -> Any:
    # Told before anything is begun: much of the extra comes with other packages, PyTorch does not.
    if entry in ("run", "families") and find_spec("torch") is None:
        raise MissingExtra(f"edgedistill {entry}", "train")
    try:
        return ENTRIES.load(entry)
    except ImportError as error:
        raise MissingExtra(f"edgedistill {entry}", "train") from error
