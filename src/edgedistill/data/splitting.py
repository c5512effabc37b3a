"""Cut validation and test rows from training rows, stratified by label."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from edgedistill.core.artefacts import Example
from edgedistill.core.errors import DataError
from edgedistill.data.duplicates import normalised


def stratified_split(
    examples: Sequence[Example], shares: Mapping[str, float], *, seed: int
) -> dict[str, tuple[Example, ...]]:
    """Cut a split of each share (in (0, 1), of all rows) off; the rest is `train`.

    What is divided are the distinct texts of a label, not its rows: equal texts (after
    normalisation) of one label stay together, so that the cut makes no leakage. Every label
    gets a text in every split; over all labels, each split gets its share of the texts to
    within rounding, as far as that allows. The result depends on the rows and the seed, not on
    the order of the rows. Rows keep their order.

    Args:
        examples: labelled rows.
        shares: name of a split to its share, e.g. {"validation": 0.15, "test": 0.15}.
        seed: decides which texts go where.

    Raises:
        DataError: a label has fewer distinct texts than there are splits; all are named.
    """
    texts: dict[str, list[str]] = {}
    keys = [(example.label or "", normalised(example.text)) for example in examples]
    for label, text in sorted(set(keys)):
        texts.setdefault(label, []).append(text)
    _require_enough(texts, len(shares) + 1)
    for label, group in texts.items():
        random.Random(f"{seed}:{label}").shuffle(group)
    place: dict[tuple[str, str], str] = {}
    num_left = {label: len(group) for label, group in texts.items()}
    for num_later, (name, share) in enumerate(reversed(list(shares.items())), start=1):
        reserve = len(shares) + 1 - num_later
        quotas = _quotas(texts, num_left, share, reserve, seed)
        for label, quota in quotas.items():
            start = num_left[label] - quota
            place |= {(label, text): name for text in texts[label][start : num_left[label]]}
            num_left[label] = start
    parts: dict[str, list[Example]] = {name: [] for name in ("train", *shares)}
    for example, key in zip(examples, keys, strict=True):
        parts[place.get(key, "train")].append(example)
    return {name: tuple(rows) for name, rows in parts.items()}


def _quotas(
    texts: Mapping[str, Sequence[str]],
    num_left: Mapping[str, int],
    share: float,
    reserve: int,
    seed: int,
) -> dict[str, int]:
    """Texts of each label for a split: largest remainders, at least one, `reserve` left over."""
    exact = {label: len(group) * share for label, group in texts.items()}
    quotas = {label: min(max(1, int(exact[label])), num_left[label] - reserve) for label in texts}
    short = round(sum(exact.values())) - sum(quotas.values())
    order = sorted(texts)
    random.Random(f"{seed}:ties").shuffle(order)
    for label in sorted(order, key=lambda label: quotas[label] - exact[label]):
        if short <= 0:
            break
        if quotas[label] < exact[label] and num_left[label] - quotas[label] > reserve:
            quotas[label] += 1
            short -= 1
    return quotas


def _require_enough(texts: Mapping[str, Sequence[str]], num_splits: int) -> None:
    rare = {label: len(group) for label, group in texts.items() if len(group) < num_splits}
    if rare:
        shown = ", ".join(f"{label!r} ({n})" for label, n in list(rare.items())[:20])
        raise DataError(
            f"{len(rare)} label(s) have too few distinct texts to split: {shown}",
            fix=f"give each label at least {num_splits} distinct texts, leave the label out, "
            "or name files for validation and test",
        )
