"""What the benchmark of compression asserts and shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compression_files import PEER
from compression_seed import (
    FILE,
    PLAIN,
    ROUNDED_PLAIN,
    WHOLE,
    FileRow,
    Seed,
)
from compression_tasks import FAST, LIGHT, LIGHT_SHARE, PRUNED, ROUNDED, SHARE
from strategies_pooled import Spread, pooled_f1, spread

SMALLER, FASTER, KEPT = 8.0, 3.5, {FAST: 0.993, LIGHT: 0.993, PRUNED: 0.98}
TITLES = {
    LIGHT: f"{LIGHT_SHARE:.0%} of the encoder pruned, INT8",
    FAST: "recipe `fast`",
    PRUNED: f"{SHARE:.0%} of the encoder pruned",
}
#: What a file has beside its weights: operators and names.
MOST_BESIDE = 1.01
Row = tuple[str, Spread, str, str, bool]


def rows_of(seeds: Sequence[Seed]) -> list[Row]:
    """The claims, means over seeds; bounds are 95 % intervals over test rows for what is kept, and
    least and most over seeds for the rest."""
    return [*_bundles(seeds), *_proportions(seeds), *_files(seeds), *_four_bits(seeds)]


def _bundles(seeds: Sequence[Seed]) -> list[Row]:
    rows = list[Row]()
    for name, title in TITLES.items():
        kept = _kept(seeds, name)
        smaller = over([s.full_bytes / s.ways[name]["size_bytes"] for s in seeds])
        faster = over([s.ways[name]["speed_up_p50"] for s in seeds])
        is_bar = name != PRUNED
        rows += [
            (f"{title}: share of the model's accuracy that is kept", kept, "",
             f"≥ {KEPT[name]:.1%}", kept[0] >= KEPT[name]),
            (f"{title}: times smaller (fp32 ONNX file over model and tokenizer)", smaller, "×",
             f"≥ {SMALLER:g}" if is_bar else "shown", not is_bar or smaller[0] >= SMALLER),
            (f"{title}: times faster (p50, one thread, one text, tokenization included, A B A B)",
             faster, "×", f"≥ {FASTER:g}" if is_bar else "shown",
             not is_bar or faster[0] >= FASTER),
        ]  # fmt: skip
    return rows


def _proportions(seeds: Sequence[Seed]) -> list[Row]:
    """Of the pruned network in full precision: what went from the layers, the file, the clock."""
    ends = [(s.removal[0], s.removal[-1]) for s in seeds]
    return [
        (f"{SHARE:.0%} pruned, full precision: {title}",
         over([1 - last[key] / whole[key] for whole, last in ends]), "", bar, holds(
             over([1 - last[key] / whole[key] for whole, last in ends])[0]))
        for title, key, bar, holds in (
            ("share of the layers' parameters removed", "layer_parameters", f"≥ {SHARE - 0.01:g}",
             lambda share: share >= SHARE - 0.01),
            ("share of all parameters removed", "parameters", "shown", lambda _: True),
            ("share of the bytes removed", "size_bytes", "shown", lambda _: True),
            ("share of the milliseconds removed", "p50_ms", "shown", lambda _: True),
        )
    ]  # fmt: skip


def _files(seeds: Sequence[Seed]) -> list[Row]:
    rows = list[Row]()
    names = [file.name for file in seeds[0].files]
    for name in names:
        of = "the peer" if name == PEER else "a pass on the file"
        files = [_file(s, name) for s in seeds]
        rows += [
            (f"{name} ({of}): share of the accuracy that is kept",
             _kept(seeds, FILE + name), "", "shown", True),
            (f"{name}: times smaller, the file alone",
             over([s.full_bytes / f.size_bytes for s, f in zip(seeds, files, strict=True)]),
             "×", "shown", True),
            (f"{name}: times faster", over([f.speed[0] for f in files]), "×", "shown", True),
        ]  # fmt: skip
    for name in seeds[0].computed:
        ratio = over([_file(s, name).size_bytes / s.computed[name] for s in seeds])
        rows.append((f"{name}: bytes on disk over those computed", ratio, "",
                     f"1 to {MOST_BESIDE:g}",
                     ratio[1] >= 1 and ratio[2] <= MOST_BESIDE))  # fmt: skip
    return rows


def _four_bits(seeds: Sequence[Seed]) -> list[Row]:
    """What four bits cost the pruned network, and what training for them brings back."""
    pruned = _accuracies(seeds, PLAIN, ROUNDED_PLAIN, ROUNDED)
    return [
        ("pruned: accuracy lost to plain rounding", points(pruned, 0, 1), "points", "shown", True),
        ("pruned: accuracy that training for four bits brings back", points(pruned, 2, 1), "points",
         "shown", True),
    ]  # fmt: skip


def points(scores: np.ndarray, model: int, other: int) -> Spread:
    """By how many points the one model is above the other.

    Args:
        scores: as of `accuracies`.
    """
    return spread(100 * (scores[:, model] - scores[:, other]))


def notes(seeds: Sequence[Seed]) -> list[str]:
    """The page below its claims."""
    lines = [
        "all-MiniLM-L6-v2, fine-tuned on CLINC150's training split, as a user would bring it; no "
        "smaller student. Bundles are made by `edgedistill compress` and scored on the test split "
        "as they ship, guard and tokenizer included; the control and the linear baseline stand in "
        "their reports. What is kept: pooled over seeds, with 95 % bootstrap intervals over test "
        "rows; other bounds are least and most over the seeds. Files of the whole network are made "
        "by passes alone, nothing is trained, and are scored once each. What each seed came to "
        "row by row stands in `seeds/compression-N.npz`; measured by revision "
        + ", ".join(f"{each.revision} (seed {each.seed})" for each in seeds)
        + ".",
        "",
        "| way | seed | accuracy | whole model | MB | p50 / p95 ms | times faster | passes "
        "| verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in seeds:
        for name, f in each.ways.items():
            lines.append(
                f"| {name} | {each.seed} | {f['accuracy']:.4f} | {f['teacher_accuracy']:.4f} | "
                f"{f['size_bytes'] / 1e6:.2f} | {f['latency']['p50_ms']:.2f} / "
                f"{f['latency']['p95_ms']:.2f} | {f['speed_up_p50']:.2f} | {f['passes']} | "
                f"{'SHIP' if f['ships'] else 'DO NOT SHIP'} |"
            )
    first = seeds[0]
    lines += [
        "",
        f"What each structural pass removed (seed {first.seed}), files in full precision:",
        "",
        "| after | layers' parameters | all parameters | MB | p50 ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {step['name'] or 'whole model'} | {step['layer_parameters']:,} | "
        f"{step['parameters']:,} | {step['size_bytes'] / 1e6:.2f} | {step['p50_ms']:.2f} |"
        for step in first.removal
    ]
    lines += [
        "",
        "What a search of pass sequences (`compress: auto`) finds in twenty minutes, against "
        "recipes and Olive, is measured by benchmarks/compression_search.py; a causal model, "
        "pruned and in four bits, by benchmarks/compression_language.py; training for four bits "
        "on students that lose answers to them, by benchmarks/compression_aware.py.",
    ]
    return lines


def _file(seed: Seed, name: str) -> FileRow:
    return next(file for file in seed.files if file.name == name)


def _kept(seeds: Sequence[Seed], name: str) -> Spread:
    """Accuracy over that of the model in full precision."""
    whole, mine = _accuracies(seeds, WHOLE, name).T
    return spread(mine / np.maximum(whole, 1e-9))


def _accuracies(seeds: Sequence[Seed], *models: str) -> np.ndarray:
    return accuracies([s.right for s in seeds], *models)


def accuracies(seeds: Sequence[Mapping[str, np.ndarray]], *models: str) -> np.ndarray:
    """Mean over seeds, float [1 + samples, models].

    Args:
        seeds: which test rows each model answered right, bool [rows], by seed.
    """
    right = np.array([[each[name] for each in seeds] for name in models])
    ones = np.ones_like(right)
    return pooled_f1(np.stack([right, ones, ones], axis=-1).astype(np.int64))


def over(values: Sequence[float]) -> Spread:
    """Mean, least and most over seeds."""
    return float(np.mean(values)), float(min(values)), float(max(values))
