"""The command line's entry: options that hold for every command, errors, exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from edgedistill.cli import compress, data, device, factory, plan
from edgedistill.core.errors import EXIT_CODES, EdgeDistillError

DEBUG_VARIABLE = "EDGEDISTILL_DEBUG"
INTERRUPTED = 130
"""What Typer makes of Ctrl-C."""

# \b: the lines are kept as they are.
EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:3d}  {meaning}" for code, meaning in EXIT_CODES.items()
)

app = typer.Typer(
    name="edgedistill",
    help="Makes the smallest model that provably does a narrow language task, and runs it.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import edgedistill

        typer.echo(f"edgedistill {edgedistill.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show and leave."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show tracebacks (also {DEBUG_VARIABLE}=1).")
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


factory.register(app)
compress.register(app)
device.register(app)
data.register(app)
plan.register(app)


def main() -> None:
    """Run a command; what can be mended is told in a sentence, never as a traceback."""
    sys.exit(_run())


def _run() -> int:
    try:
        app(prog_name="edgedistill")
    except SystemExit as end:  # how Typer ends, also after a usage error
        return _ended(end.code)
    except EdgeDistillError as error:
        return _fail(str(error), error.exit_code)
    except Exception as error:
        hint = "" if _is_debugging() else " (--debug shows where)"
        return _fail(f"unexpected {type(error).__name__}: {error}{hint}", 1)
    return 0


def _fail(message: str, code: int) -> int:
    if _is_debugging():
        traceback.print_exc()
    print(f"edgedistill: {message}", file=sys.stderr)
    return code


def _ended(code: object) -> int:
    if code == INTERRUPTED:
        print("edgedistill: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else int(code is not None)


def _is_debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


if __name__ == "__main__":
    main()
