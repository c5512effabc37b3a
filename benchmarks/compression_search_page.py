"""What the benchmark of the search of passes asserts, shows and draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from compression_page import Row
from compression_search_files import NUM_ROUNDS, Found
from compression_search_olive import Finding, olive_version
from edgedistill.evaluate.report.style import STYLE
from edgedistill.evaluate.report.svg import Chart, linear_scale, log_scale
from strategies_pooled import Spread, pooled_f1, spread

AUTO, RECIPE, OLIVE = "auto", "recipe", "Olive"
#: So far below the best a point is drawn; one that is useless would press the others together.
DRAWN = 0.1
_STYLES = {AUTO: "series1", RECIPE: "series3", OLIVE: "series2"}


@dataclass(frozen=True)
class Compared:
    """One fine-tuned model and what every way made of it.

    `fronts`: by way, on validation; of recipes all. `num_found`: files by way. `p50_ms`: float64
    [rounds] of each file, and `right`: bool [rows], both on the test. `minutes`: that `auto` took.
    """

    seed: int
    whole: Found
    fronts: Mapping[str, Sequence[Found]]
    num_found: Mapping[str, int]
    p50_ms: Mapping[Path, np.ndarray]
    right: Mapping[Path, np.ndarray]
    minutes: float
    olive: Finding

    @cached_property
    def accuracies(self) -> dict[Path, np.ndarray]:
        """Accuracy of each file, float [1 + samples], all on the same rows."""
        right = np.stack(list(self.right.values()))[:, None]
        ones = np.ones_like(right)
        pooled = pooled_f1(np.stack([right, ones, ones], axis=-1).astype(np.int64))
        return dict(zip(self.right, pooled.T, strict=True))

    def slower(self, mine: Found, other: Found) -> Spread:
        """p50 of the one over that of the other: median of rounds, least, most."""
        ratios = self.p50_ms[mine.file] / self.p50_ms[other.file]
        return float(np.median(ratios)), float(ratios.min()), float(ratios.max())

    def gain(self, mine: Found, other: Found) -> Spread:
        """Points of accuracy that the one is above the other, with the paired 95 % interval."""
        return spread(100 * (self.accuracies[mine.file] - self.accuracies[other.file]))

    def is_lighter(self, mine: Found, other: Found) -> bool:
        """Whether a file is no larger, and no slower in every round."""
        return mine.size_bytes <= other.size_bytes and self.slower(mine, other)[1] <= 1

    def best(self, way: str, other: Found) -> tuple[Found, Spread] | None:
        """Of a way's points that are no larger and no slower, the most accurate, and its gain."""
        lighter = [mine for mine in self.fronts[way] if self.is_lighter(mine, other)]
        if not lighter:
            return None
        mine = max(lighter, key=lambda each: float(self.right[each.file].mean()))
        return mine, self.gain(mine, other)

    def is_dominated(self, other: Found, way: str) -> bool:
        """Whether a point of a way is no larger, no slower and no less accurate."""
        best = self.best(way, other)
        return best is not None and best[1][2] >= 0

    def is_beaten(self, other: Found, way: str) -> bool:
        """The same by the figures themselves: no less accurate by a single test row."""
        best = self.best(way, other)
        return best is not None and best[1][0] >= 0


def rows_of(each: Compared, minutes: float) -> list[Row]:
    """The claims."""
    taken = each.minutes
    rows: list[Row] = [
        ("`auto`: minutes of search and final trainings", _exact(taken), "min", f"≤ {minutes:g}",
         taken <= minutes),
    ]  # fmt: skip
    for recipe in each.fronts[RECIPE]:
        best = each.best(AUTO, recipe)
        gain = best[1] if best else (-100.0, -100.0, -100.0)
        rows.append((
            f"most accurate point of `auto` that is no larger and no slower than recipe "
            f"`{recipe.name.split(',')[0]}`: accuracy above it", gain, "points",
            "interval reaches 0", best is not None and gain[2] >= 0,
        ))  # fmt: skip
    if points := each.fronts[OLIVE]:
        num = sum(each.is_dominated(point, AUTO) for point in points)
        beaten = sum(each.is_beaten(point, AUTO) for point in points)
        back = sum(each.is_dominated(point, OLIVE) for point in each.fronts[AUTO])
        rows += [
            ("points of Olive's front that a point of `auto` dominates", _exact(num),
             f"of {len(points)}", "all", num == len(points)),
            ("of them by figures alone, no interval", _exact(beaten), f"of {len(points)}", "shown",
             True),
            ("points of `auto` that a point of Olive dominates", _exact(back),
             f"of {len(each.fronts[AUTO])}", "shown", True),
            ("Olive: minutes of its searches", _exact(each.olive.seconds / 60), "min", "shown",
             True),
        ]  # fmt: skip
    return rows


def notes(seeds: Sequence[Compared], num_cores: int) -> list[str]:
    """The page below its claims and pictures."""
    lines = [
        "all-MiniLM-L6-v2, fine-tuned on CLINC150's training split. `auto` is `edgedistill "
        "compress --auto` as a user runs it; its files are all that it measured, of trials and "
        "final trainings, each as it would ship (what it did not keep is made again). Recipes are "
        "trained whole, each for itself, by the same settings. Time is that from the task's data "
        "to the last training, the teacher's reading "
        f"of the texts included, on {num_cores} core(s); the fine-tuning before and the verdict "
        "after are left out. Which points are on a front was decided on validation, by what each "
        "way measured itself; all recipes are shown.",
        "",
        "Bytes are those of model and tokenizer (the same packed one for all). p50: one text at a "
        f"time, one thread, tokenization included, all files in turn (A B A B), {NUM_ROUNDS} "
        "rounds over the same test texts. Accuracy: the test split, once each file, with 95 % "
        "bootstrap intervals over rows. A point dominates another if it is no larger, not slower "
        "in every round, and the paired interval of the difference in accuracy reaches 0 or "
        f"above. Pictures leave out what is more than {100 * DRAWN:g} points below the best.",
    ]  # fmt: skip
    if any(each.olive.files for each in seeds):
        lines += ["", _about_olive()]
    for each in seeds:
        lines += ["", f"## Seed {each.seed}", "", _undominated(each), "", *_table(each)]
        if each.olive.searches:
            lines += ["", "Olive's searches: " + "; ".join(each.olive.searches) + "."]
    return lines


def _about_olive() -> str:
    return (
        f"Olive (`olive-ai` {olive_version()}) was given the same ONNX file in full precision, "
        "validation rows and calibration texts, its own metrics (accuracy, p50 of the network on "
        "one thread, bytes) and its own search (joint order, TPE), for as long: fused as a BERT, "
        "then one of dynamic and static INT8, MatMulNBits by rounding, HQQ or k-quant. It "
        "retrains nothing. Each pass is a search of its own with an even share of the time left: "
        "over sequences its search fails in this version."
    )


def _undominated(each: Compared) -> str:
    left = [
        f"{way} {point.name}" for way in (RECIPE, OLIVE) for point in each.fronts[way]
        if not each.is_dominated(point, AUTO)
    ]  # fmt: skip
    if not left:
        return "No point of a recipe or of Olive is left undominated by `auto`."
    return "Not dominated by `auto`: " + "; ".join(left) + "."


def _table(each: Compared) -> list[str]:
    lines = [
        "| way | point | MB | p50 ms | test accuracy (95 %) | on validation | best of `auto` that "
        "is no larger and no slower |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| | {_cells(each, each.whole)} | | |",
    ]
    for way, points in each.fronts.items():
        for point in points:
            against = "" if way == AUTO else _told(each.best(AUTO, point))
            cells = _cells(each, point)
            lines.append(f"| {way} | {cells} | {point.accuracy:.2%} | {against} |")
    found = ", ".join(f"{way} {num}" for way, num in each.num_found.items())
    return [*lines, "", f"Files found: {found}."]


def _cells(each: Compared, point: Found) -> str:
    value, low, high = spread(each.accuracies[point.file])
    return (
        f"{point.name} | {point.size_bytes / 1e6:.2f} | "
        f"{np.median(each.p50_ms[point.file]):.3f} | {value:.2%} ({low:.2%} to {high:.2%})"
    )


def _told(best: tuple[Found, Spread] | None) -> str:
    if best is None:
        return "none"
    value, low, high = best[1]
    verdict = "dominates" if high >= 0 else "less accurate"
    return f"{verdict}: {best[0].name}, {value:+.2f} points ({low:+.2f} to {high:+.2f})"


def pictures(each: Compared) -> dict[str, tuple[str, str]]:
    """(SVG, description) of test accuracy over bytes and over p50."""
    return {
        "bytes": _picture(each, lambda p: p.size_bytes / 1e6, "MB of model and tokenizer"),
        "time": _picture(each, lambda p: float(np.median(each.p50_ms[p.file])), "p50, ms"),
    }


def _picture(each: Compared, cost: Callable[[Found], float], x_title: str) -> tuple[str, str]:
    every = [(way, point) for way, front in each.fronts.items() for point in front]
    right = {point.file: float(each.right[point.file].mean()) for _, point in every}
    least = max(right.values()) - DRAWN
    points = [(way, point) for way, point in every if right[point.file] >= least]
    costs = [cost(point) for _, point in points]
    scores = [right[point.file] for _, point in points]
    chart = Chart(
        log_scale(min(costs), max(costs)), linear_scale(min(scores), max(scores)),
        x_title=f"{x_title} (logarithmic)", y_title="test accuracy", y_percent=True,
    )  # fmt: skip
    told = []
    for way, style in _STYLES.items():
        placed = sorted(
            (x, y, point.name)
            for (mine, point), x, y in zip(points, costs, scores, strict=True) if mine == way
        )  # fmt: skip
        best, rising = -np.inf, list[tuple[float, float]]()
        for x, y, _ in placed:
            if y > best:
                best, rising = y, [*rising, (x, y)]
        if rising:
            chart.line(*zip(*rising, strict=True), f"{style} thin", steps=True)
        for x, y, name in placed:
            chart.point(x, y, 5.0, style, f"{way}, {name}: {y:.2%}, {x:.2f}")
        told.append(f"{way}: " + ", ".join(f"{y:.2%} at {x:.2f}" for x, y in rising))
    present = [(style, way) for way, style in _STYLES.items() if each.fronts[way]]
    chart.dot_legend(present, below=True)
    alt = f"test accuracy over {x_title}; best for their cost: {'; '.join(told)}"
    if left := len(every) - len(points):
        alt += f"; not drawn, below {least:.0%}: {left}"
    # Alone, a chart needs what the report's page says of it.
    opening = '<svg xmlns="http://www.w3.org/2000/svg" '
    svg = chart.render(alt).replace("<svg ", opening, 1)
    return svg.replace(">", f"><style><![CDATA[{STYLE}]]></style>", 1) + "\n", alt


def _exact(value: float) -> Spread:
    return value, value, value
