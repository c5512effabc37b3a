"""Measurements as lines of text for people: what `bench` and `compare` print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedistill.evaluate.report.blocks import Table
    from edgedistill.runtime.comparing import Comparison
    from edgedistill.runtime.limits import BenchResult
    from edgedistill.runtime.measuring import Speed


def bench_lines(result: BenchResult) -> Iterator[str]:
    """Figures of a bundle under limits, and how the limits were kept."""
    on = f" on CPU {', '.join(map(str, result.cpus))}" if result.cpus else ""
    yield f"{result.size_bytes:,} bytes of model and tokenizer, {result.threads} thread(s){on}"
    if result.speed:
        yield from _speed_lines(result.speed)
    if result.energy:
        energy = f"{1000 * result.energy.joules:.3g} mJ an answer"
        yield _line("energy", f"{energy} ({result.energy.basis})")
    if result.cold_start_ms is not None:
        low, high = min(result.cold_starts_ms), max(result.cold_starts_ms)
        yield _line(
            "cold start",
            f"{result.cold_start_ms:.0f} ms from starting the process to the first answer (median "
            f"of {len(result.cold_starts_ms)}, {low:.0f} to {high:.0f}); {result.load_ms:.0f} ms "
            f"of it loading, {result.first_answer_ms:.1f} ms the first answer",
        )
    yield _line("peak memory", f"{result.peak_memory_bytes / 1e6:.1f} MB resident")
    for limit in result.limits:
        kept = "" if limit.enforced else "NOT ENFORCED, "
        yield f"limits — {limit.what}, {limit.asked}: {kept}{limit.how}"


def comparison_lines(result: Comparison, table: Table) -> Iterator[str]:
    """Bundles side by side, a column each, below them how they were measured."""
    rows = [
        table.headings,
        *([cell if isinstance(cell, str) else cell.text for cell in row] for row in table.rows),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.headings))]
    for name, *cells in rows:
        told = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *told])
    yield (
        f"{result.num_rows:,} rows, {result.num_labelled:,} of them say what is right; compared "
        f"with {result.sides[0].label}; {result.threads} thread(s), timed in turn"
    )


def _speed_lines(speed: Speed) -> Iterator[str]:
    named = [
        ("one text, everything included", speed.latency),
        ("network alone", speed.model_latency),
    ]
    if speed.writing is not None:
        named.append(("until the first token", speed.writing.first_token))
        yield _line("writing", f"{speed.writing.tokens_per_s:,.0f} tokens a second")
    for name, latency in named:
        yield _line(
            name,
            f"p50 {latency.p50_ms:.3f} ms, p95 {latency.p95_ms:.3f} ms, "
            f"p99 {latency.p99_ms:.3f} ms ({latency.num_samples} calls, warmed up)",
        )
    for size, rate in speed.throughput_per_s.items():
        yield _line(f"in batches of {size}", f"{rate:,.0f} texts a second")


def _line(name: str, text: str) -> str:
    return f"{name + ':':32s} {text}"
