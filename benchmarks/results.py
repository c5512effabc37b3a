"""Results of a benchmark: one row a claim, written as Markdown for people and JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgedistill.core.files import write_json, write_text

FOLDER = Path(__file__).parent.parent / "docs" / "results"


@dataclass(frozen=True)
class Result:
    """A claim, what was measured (with bounds over seeds and examples), the bar, and whether it
    holds. Fields and their order are those of every file in docs/results."""

    claim: str
    value: float
    low: float
    high: float
    unit: str
    bar: str
    holds: bool
    seeds: list[int]
    command: str
    machine: str


def write_results(
    name: str,
    title: str,
    results: Sequence[Result],
    notes: Sequence[str],
    more: Sequence[Result] = (),
) -> None:
    """Write docs/results/NAME.json and NAME.md; `more`: rows of the JSON whose figures the notes
    have."""
    write_json(FOLDER / f"{name}.json", [asdict(result) for result in (*results, *more)])
    lines = [
        f"# {title}",
        "",
        f"Written by `{results[0].command}`; do not edit. Machine: {results[0].machine}. "
        f"Seeds: {', '.join(str(s) for s in results[0].seeds)}.",
        "",
        "| claim | measured | low … high | bar | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.claim} | {_number(r.value)} {r.unit} | {_number(r.low)} … {_number(r.high)} "
        f"| {r.bar} | {'yes' if r.holds else '**no**'} |"
        for r in results
    ]
    lines += ["", *notes]
    write_text(FOLDER / f"{name}.md", "\n".join(lines) + "\n")


def tell(results: Sequence[Result]) -> None:
    """Print each claim, with a mark whether it holds, for who waits for the benchmark."""
    for r in results:
        mark, bounds = "✓" if r.holds else "✗", f"[{r.low:.4f}, {r.high:.4f}]"
        print(f"{mark} {r.claim}: {r.value:.4f} {bounds} {r.unit} ({r.bar})")


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}".rstrip("0").rstrip(".")
