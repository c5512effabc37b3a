"""Equal and nearly equal texts: duplicates, conflicting labels, leakage between splits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill.core.artefacts import Example
from edgedistill.data.near_duplicates import near_neighbours

NEAR_THRESHOLD = 0.8
_SPACES = re.compile(r"\s+")


class _Folding(dict[int, str]):
    """Character to its replacement, worked out at first sight: punctuation and space to one
    space, invisible format characters to nothing, all else to itself."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if category.startswith("P") or character.isspace():
            folded = " "
        else:
            folded = "" if category == "Cf" else character
        self[code] = folded
        return folded


_FOLDING = _Folding()


def normalised(text: str) -> str:
    """The text as it is compared: Unicode NFKC, case folded, punctuation and space collapsed.

    Symbols (emoji, +, $) stay, for they carry meaning; a text of punctuation alone keeps it.
    Never empty for a text that is not blank.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _SPACES.sub(" ", folded.translate(_FOLDING)).strip() or folded.strip() or text


@dataclass(frozen=True)
class Leak:
    """A row of one split that (nearly) stands in another: `row` leaks from `source`.

    `exact`: equal after normalisation. `similarity`: Jaccard of character trigrams, 1 if exact.
    """

    source: Example
    row: Example
    exact: bool
    similarity: float


def duplicate_groups(examples: Sequence[Example]) -> list[tuple[Example, ...]]:
    """Groups of two or more rows whose texts are equal after normalisation."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(normalised(example.text), []).append(example)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def conflicting_groups(examples: Sequence[Example]) -> list[tuple[Example, ...]]:
    """Duplicate groups whose rows do not all have the same label."""
    groups = duplicate_groups(examples)
    return [group for group in groups if len({example.label for example in group}) > 1]


def find_leaks(
    source: Sequence[Example], rows: Sequence[Example], *, threshold: float = NEAR_THRESHOLD
) -> list[Leak]:
    """For each of `rows` that stands in `source`, or nearly so, its nearest source row.

    Args:
        source: usually the training rows.
        rows: usually validation or test rows.
        threshold: least Jaccard similarity of character trigrams of the normalised texts that
            counts as nearly equal.
    """
    first_by_text: dict[str, Example] = {}
    for example in source:
        first_by_text.setdefault(normalised(example.text), example)
    texts = [normalised(row.text) for row in rows]
    other_texts = list(dict.fromkeys(text for text in texts if text not in first_by_text))
    source_texts = list(first_by_text)
    near = {
        other_texts[found.query]: (source_texts[found.corpus], found.similarity)
        for found in near_neighbours(other_texts, source_texts, threshold=threshold)
    }
    leaks = []
    for row, text in zip(rows, texts, strict=True):
        if text in first_by_text:
            leaks.append(Leak(first_by_text[text], row, True, 1.0))
        elif text in near:
            nearest, similarity = near[text]
            leaks.append(Leak(first_by_text[nearest], row, False, similarity))
    return leaks
