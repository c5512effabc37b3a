"""Commands that run a bundle: predict, bench, verify, compare, serve."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import (
    BudgetExceeded,
    DataError,
    MissingExtra,
    SpecError,
    VerificationFailed,
)
from edgedistill.runtime.providers import CPU

BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="Folder or .edb file.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads; left out: as stated in the bundle.")
]
Provider = Annotated[
    str,
    typer.Option(
        help="What computes an ONNX file: cpu, or tensorrt, where ONNX Runtime has it and it "
        "starts."
    ),
]

# By name: the command line does not know the service, and loads it when it serves.
SERVICES = Catalogue(
    "service",
    {
        "serve": "edgedistill.service.inference:serve",
        "limits": "edgedistill.service.limits:RequestLimits",
    },
)

# Likewise: they reckon intervals as the factory does.
COMPARISONS = Catalogue(
    "form of a comparison",
    {
        "json": "edgedistill.evaluate.comparison:comparison_json",
        "page": "edgedistill.evaluate.report.comparison_page:comparison_page",
        "table": "edgedistill.evaluate.report.comparison_page:comparison_table",
    },
)


def register(app: typer.Typer) -> None:
    """Add the device's commands to the command line."""
    for command in (predict, bench, verify, compare, serve):
        app.command()(command)


def predict(
    bundle: BundlePath,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="What to ask.", show_default=False)
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help='Read JSON Lines {"text": …} or plain lines.')
    ] = False,
    as_json: AsJson = False,
    threads: Threads = None,
    provider: Provider = CPU,
) -> None:
    """Answer texts, one line each; an abstention comes with its reason."""
    if bool(texts) == stdin:
        raise SpecError("nothing to ask, or asked twice", fix="give either TEXT… or --stdin")
    from edgedistill.runtime.loading import load

    runner = load(bundle, threads=threads, provider=provider)
    for row in _stdin_rows() if stdin else ({"text": text} for text in texts or []):
        prediction = runner.predict([row["text"]])[0]
        if as_json:
            kept = {key: row[key] for key in ("id", "text") if key in row}
            _print(json.dumps({**kept, **prediction.as_json()}, ensure_ascii=False))
        else:
            _print(f"{prediction.as_line()}\t{' '.join(str(row['text']).split())}")


def bench(
    bundle: BundlePath,
    threads: Threads = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="CPUs it may use; left out: one a thread.")
    ] = None,
    memory_mb: Annotated[
        float | None, typer.Option(min=1, help="Most resident memory, in 10^6 bytes.")
    ] = None,
    watts: Annotated[
        float | None,
        typer.Option(min=0.01, help="Power of a busy core, where the processor counts no energy."),
    ] = None,
    as_json: AsJson = False,
    provider: Provider = CPU,
) -> None:
    """Measure latency, throughput, cold start, memory and energy in processes under limits.

    Exit code 5: it needs more memory than the limit.
    """
    from edgedistill.cli.measured import bench_lines
    from edgedistill.runtime.limits import bench as run_bench

    result = run_bench(
        bundle, threads=threads, cores=cores, memory_mb=memory_mb, watts=watts, provider=provider
    )
    if as_json:
        _print_json(result.as_json())
    else:
        for line in bench_lines(result):
            _print(line)
    if result.exceeded:
        raise BudgetExceeded(
            _why_exceeded(result.needed_bytes or 0, result.memory_limit_bytes or 0),
            where=str(bundle),
            fix="a smaller model, or a higher --memory-mb",
        )


def _why_exceeded(needed_bytes: int, limit_bytes: int) -> str:
    limit = f"the limit is {limit_bytes / 1e6:g} MB"
    if needed_bytes > limit_bytes:
        return f"it needs {needed_bytes / 1e6:.1f} MB of memory, {limit}"
    # Answering one text at a time fits; what is measured besides (batches) did not.
    return f"it does not fit: {limit}, {needed_bytes / 1e6:.1f} MB do for single texts"


def verify(
    bundle: BundlePath,
    as_json: AsJson = False,
    threads: Threads = None,
    provider: Provider = CPU,
) -> None:
    """Check every hash and run the golden examples on this machine.

    Exit code 6: a file is damaged or missing; 10: golden answers differ.
    """
    from edgedistill.runtime.verification import verify as run_verify

    result = run_verify(bundle, threads=threads, provider=provider)
    if as_json:
        _print_json(result.as_json())
    else:
        _print(f"{result.num_files} files as hashed")
        _print(
            f"{result.num_examples - len(result.mismatches)} of {result.num_examples} golden "
            f"examples as recorded; logits differ by at most {result.max_logit_difference:.2g} "
            f"(allowed: {result.tolerance:g})"
        )
        for mismatch in result.mismatches:
            _print(f"  {mismatch.text!r}: {mismatch.answered}, recorded {mismatch.expected}")
        for name in result.unlisted:
            _print(f"  note: {name} does not belong to the bundle")
    if not result.holds:
        raise VerificationFailed(
            f"{len(result.mismatches)} golden examples are answered otherwise on this machine",
            where=str(bundle),
        )


def compare(
    bundles: Annotated[
        list[Path],
        typer.Argument(
            metavar="BUNDLE BUNDLE…",
            help="Bundles, or folders of runs; the original first.",
            show_default=False,
        ),
    ],
    on: Annotated[
        Path,
        typer.Option("--on", help="JSON Lines with text and, perhaps, label, response or record."),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with charts there.")
    ] = None,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run bundles on the same rows, timed in turn: size, speed, quality, what each keeps."""
    if len(bundles) < 2:
        raise SpecError("one bundle alone cannot be compared", fix="name two or more")
    from edgedistill.cli.measured import comparison_lines
    from edgedistill.core.files import storage_errors, write_text
    from edgedistill.runtime.comparing import compare as run_compare
    from edgedistill.runtime.json_lines import read_rows

    try:
        rows = list(read_rows(on.read_text(encoding="utf-8").split("\n"), where=str(on)))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot be read: {error}", where=str(on), fix="UTF-8 JSON Lines"
        ) from error
    result = run_compare(bundles, rows, threads=threads)
    if html is not None:
        with storage_errors(html.parent):
            write_text(html, COMPARISONS.load("page")(result))
    if as_json:
        _print_json(COMPARISONS.load("json")(result))
        return
    for line in comparison_lines(result, COMPARISONS.load("table")(result)):
        _print(line)


def serve(
    bundle: BundlePath,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    threads: Threads = None,
    max_body_bytes: Annotated[int, typer.Option(min=1)] = 1_000_000,
    max_batch_size: Annotated[int, typer.Option(min=1)] = 128,
    max_concurrent: Annotated[int, typer.Option(min=1)] = 32,
    provider: Provider = CPU,
) -> None:
    """Answer over HTTP (POST /v1/predict; GET /healthz, /readyz, /metrics, /docs)."""
    try:
        run_server, limits = SERVICES.load("serve"), SERVICES.load("limits")
    except ModuleNotFoundError as error:
        raise MissingExtra("edgedistill serve", "serve") from error
    from edgedistill.runtime.loading import load

    run_server(
        load(bundle, threads=threads, provider=provider),
        host=host,
        port=port,
        limits=limits(
            max_body_bytes=max_body_bytes,
            max_batch_size=max_batch_size,
            max_concurrent=max_concurrent,
        ),
    )


def _stdin_rows() -> Iterator[dict[str, Any]]:
    from edgedistill.runtime.json_lines import read_rows

    # Bytes that are no UTF-8 become surrogates, which the classifier refuses with a reason.
    stream = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="surrogateescape")
    return read_rows(stream, where="standard input", plain=True)


def _print(line: str) -> None:
    try:
        # A surrogate cannot be written as it is; \udcff is also what JSON calls it.
        sys.stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`… | head`). Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2, ensure_ascii=False))
