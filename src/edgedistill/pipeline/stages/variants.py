"""Files of one student, by the passes that made them: which one is kept, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill.compress.passes import SEQUENCES
from edgedistill.core.files import read_json
from edgedistill.pipeline.stages.bounds import over, with_tuples, within

VARIANTS = "variants.json"
#: A pass may cost this share of the validation answers against full precision.
MOST_LOST_ACCURACY = 0.003
LEAST_AGREEMENT = 0.985
#: What files for that runtime are called after.
LITERT = "litert_"
SAME_SIZE = 1.03
SAME_TIME = 1.15


@dataclass(frozen=True)
class Variant:
    """One sequence of passes, measured on validation.

    `size_bytes`: model and tokenizer. `retention`: share of the score in full precision that it
    keeps, paired by row, with its bounds (value, low, high); None where that scores nothing.
    `bytes_by_pass`: after each pass. `peak_memory_bytes`: resident, in a process of its own, where
    the task bounds it.
    """

    passes: tuple[str, ...]
    size_bytes: int
    accuracy: float
    agreement: float
    p50_ms: float
    p95_ms: float
    kept: bool = False
    reason: str = ""
    retention: tuple[float, float, float] | None = None
    bytes_by_pass: tuple[int, ...] = ()
    peak_memory_bytes: int | None = None


def read_variants(folder: Path) -> tuple[Variant, ...]:
    """What `compress_and_keep` tried."""
    rows: list[dict[str, Any]] = read_json(folder / VARIANTS)
    return tuple(Variant(**with_tuples(row)) for row in rows)


def asked_passes(spec: Any) -> tuple[str, ...]:
    """The sequence that a task file names; empty where it leaves the choice."""
    return spec.compress.asked if spec.compress else ()


def share_of_int8(passes: Sequence[str]) -> float:
    """Bytes of a file that these passes make, roughly, over those with INT8 throughout."""
    if passes and all("float16" in name for name in passes):
        return 2.0
    return 0.55 if any("int4" in name or name == "palette_16" for name in passes) else 1.0


def forecast_share(spec: Any) -> float:
    """The same of the file that would be kept: under the passes that the task names, or, of a model
    that is compressed without a smaller student, under the smallest sequence that is tried."""
    if asked := asked_passes(spec):
        return share_of_int8(asked)
    if spec.compress is not None and spec.compress.is_of_teacher:
        return min(map(share_of_int8, SEQUENCES))
    return 1.0


def asked_settings(spec: Any) -> dict[str, Any] | None:
    """All that the task file says of compression, as plain values; None where it says nothing. How
    a sequence was found has no part in what it makes."""
    return spec.compress.model_dump(mode="json", exclude={"search"}) if spec.compress else None


def as_asked(variants: Sequence[Variant]) -> list[Variant]:
    """The passes that a task file names are kept, whatever they cost: the ledger tells it."""
    return [
        replace(
            v, kept=bool(v.passes), reason="named in the task file" if v.passes else "not asked for"
        )
        for v in variants
    ]


def is_litert(passes: Sequence[str]) -> bool:
    """Whether a file of these passes is for LiteRT."""
    return any(name.startswith(LITERT) for name in passes)


def smallest_of(
    files: Mapping[tuple[str, ...], Path], beside_bytes: int
) -> dict[tuple[str, ...], Path]:
    """Of files by their passes, full precision and the smallest, with what counts as equal to it;
    full precision alone where no pass had anything to do.

    Args:
        beside_bytes: what ships beside each of them.
    """
    sizes = {passes: file.stat().st_size + beside_bytes for passes, file in files.items()}
    least = min((size for passes, size in sizes.items() if passes), default=0)
    return {p: files[p] for p, size in sizes.items() if not p or size <= SAME_SIZE * least}


def serves(chosen: Sequence[Variant], required: Any) -> bool:
    """Whether, of the smallest variants, the one to keep does what was asked for, or is too large
    already, so that none that is larger would be kept in its place."""
    kept = next(v for v in chosen if v.kept)
    size_mb = required.size_mb
    is_too_large = size_mb is not None and kept.size_bytes > size_mb * 1e6
    return bool(kept.passes) and (is_too_large or within(kept, required))


def choose_variant(
    variants: Sequence[Variant], required: Any, *, only_litert: bool = False
) -> list[Variant]:
    """Mark the one to keep and give every other one its reason.

    Of those that lose no more than MOST_LOST_ACCURACY against full precision: first those within
    size and latency, then the smallest. Sizes within 3 % and times within 15 % of each other count
    as equal (a machine's noise is no reason): there the one nearest to full precision wins.
    `only_litert`: a file for another runtime is there to compare with alone.
    """
    full = variants[0]
    sound = [
        v for v in variants
        if v.accuracy >= full.accuracy - MOST_LOST_ACCURACY and v.agreement >= LEAST_AGREEMENT
        and (is_litert(v.passes) or not only_litert)
    ]  # fmt: skip

    pool = [v for v in sound if within(v, required)] or sound
    smallest = min(v.size_bytes for v in pool)
    small = [v for v in pool if v.size_bytes <= SAME_SIZE * smallest]
    fastest = min(v.p50_ms for v in small)
    quick = [v for v in small if v.p50_ms <= SAME_TIME * fastest]
    best = max(quick, key=lambda v: (v.agreement, -v.p50_ms))
    return [_judged(v, v is best, v in sound, full, best, within(v, required)) for v in variants]


def _judged(
    v: Variant, kept: bool, sound: bool, full: Variant, best: Variant, within: bool
) -> Variant:
    values = asdict(v) | {"passes": v.passes, "kept": kept}
    if kept:
        return Variant(**values)
    if not sound:
        reason = (
            f"costs quality: accuracy {full.accuracy:.4f} → {v.accuracy:.4f}, "
            f"{1 - v.agreement:.1%} of the answers change"
        )
    elif not within:
        reason = over(v)
    elif v.size_bytes > SAME_SIZE * best.size_bytes:
        reason = (
            f"does not pay: {v.size_bytes / 1e6:.2f} MB where {best.size_bytes / 1e6:.2f} MB "
            "serve as well"
        )
    elif v.p50_ms > SAME_TIME * best.p50_ms:
        reason = f"does not pay: p50 {v.p50_ms:.3f} ms where {best.p50_ms:.3f} ms serve as well"
    else:
        reason = (
            f"does not pay: no smaller or faster, {1 - v.agreement:.2%} of the answers change "
            f"instead of {1 - best.agreement:.2%}"
        )
    return Variant(**(values | {"reason": reason}))
