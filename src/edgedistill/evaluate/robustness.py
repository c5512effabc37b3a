"""How much accuracy is left when texts come as people write them.

Every perturbation keeps the meaning for a human reader, keeps at least one word, and draws from
a generator seeded by (seed, perturbation, row): a row's perturbed text does not depend on the
other rows. Typos come from the same routine as the augmentation of the training texts, so a
model trained with them has met their kind (never these rows).
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from edgedistill.core.artefacts import Interval
from edgedistill.data.augmentation import add_typo
from edgedistill.evaluate.intervals import accuracy_difference_interval, wilson_interval
from edgedistill.evaluate.metrics import accuracy

Perturbation = Callable[[str, random.Random], str]
_CHARACTERS_PER_TYPO = 20
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")


def mistype(text: str, rng: random.Random) -> str:
    """One typo for every 20 characters begun: neighbour key, swap, deletion or doubling."""
    for _ in range(-(-len(text) // _CHARACTERS_PER_TYPO)):
        text = add_typo(text, rng)
    return text


def to_lower(text: str, _rng: random.Random) -> str:
    """All letters small."""
    return text.lower()


def to_upper(text: str, _rng: random.Random) -> str:
    """All letters capital."""
    return text.upper()


def without_punctuation(text: str, _rng: random.Random) -> str:
    """ASCII punctuation left out; a text of nothing else stays as it is."""
    bare = " ".join(_PUNCTUATION.sub("", text).split())
    return bare or text


def with_punctuation(text: str, rng: random.Random) -> str:
    """A comma after one word, and a mark (or several) at the end."""
    words = text.split()
    if len(words) > 2:
        place = rng.randrange(len(words) - 1)
        words[place] += ","
    return " ".join(words).rstrip(".!?") + rng.choice((".", "!", "?", "...", "!!"))


def cut_short(text: str, _rng: random.Random) -> str:
    """The last fifth of the words (at least one) cut, as by a sender in a hurry."""
    words = text.split()
    return " ".join(words[: max(1, len(words) - max(1, len(words) // 5))]) or text


def with_extra_spaces(text: str, rng: random.Random) -> str:
    """Two or three spaces between words, some around."""
    gaps = [" " * rng.randint(2, 3) for _ in text.split()]
    return " " + "".join(word + gap for word, gap in zip(text.split(), gaps, strict=True))


PERTURBATIONS: MappingProxyType[str, Perturbation] = MappingProxyType(
    {
        "typos": mistype,
        "lower case": to_lower,
        "upper case": to_upper,
        "punctuation removed": without_punctuation,
        "punctuation added": with_punctuation,
        "last words cut": cut_short,
        "extra spaces": with_extra_spaces,
    }
)


@dataclass(frozen=True)
class RobustnessRow:
    """Accuracy under one perturbation.

    `difference` is this accuracy minus that of the unchanged texts, paired by row. `agreement`
    is the share of answers equal to those of the unchanged texts. `num_changed` counts the texts
    that the perturbation changed at all.
    """

    perturbation: str
    num_rows: int
    num_changed: int
    accuracy: Interval
    difference: Interval
    agreement: float


def perturb(texts: Sequence[str], perturbation: str, *, seed: int) -> list[str]:
    """The texts under one of `PERTURBATIONS`."""
    change = PERTURBATIONS[perturbation]
    return [
        change(text, random.Random(f"{seed}/{perturbation}/{row}"))
        for row, text in enumerate(texts)
    ]


def measure_robustness(
    texts: Sequence[str],
    targets: ArrayLike,
    predict_labels: Callable[[list[str]], ArrayLike],
    *,
    seed: int,
    confidence: float = 0.95,
) -> tuple[RobustnessRow, ...]:
    """Accuracy on the texts as they are ("unchanged") and under every perturbation.

    Args:
        texts: inputs; `targets`: their label indices, int [num_rows].
        predict_labels: texts to label indices, -1 where it abstains (counts as wrong).
    """
    goal = np.asarray(targets, dtype=np.int64)
    plain = list(texts)
    baseline = np.asarray(predict_labels(plain), dtype=np.int64)
    rows = []
    for name in ("unchanged", *PERTURBATIONS):
        changed = plain if name == "unchanged" else perturb(plain, name, seed=seed)
        answers = baseline if changed is plain else np.asarray(predict_labels(changed), np.int64)
        right = answers == goal
        rows.append(
            RobustnessRow(
                perturbation=name,
                num_rows=len(plain),
                num_changed=sum(a != b for a, b in zip(plain, changed, strict=True)),
                accuracy=wilson_interval(int(right.sum()), len(goal), confidence=confidence),
                difference=accuracy_difference_interval(
                    baseline == goal, right, confidence=confidence, seed=seed
                ),
                agreement=accuracy(baseline, answers),
            )
        )
    return tuple(rows)
