"""Edits within a task: a text is changed where a reader would not take it for another.

Whether the answer stays is for the teacher to say: here are the edits alone. Words are runs of
letters, characters are Unicode code points. Only ``random.Random`` decides.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from edgedistill.core.augmentation import Edit
from edgedistill.data.augmentation import (
    END_MARKS,
    Admit,
    add_typo,
    collected,
    without_end_mark,
)

Synonyms = Mapping[str, Sequence[str]]

WORD = re.compile(r"[^\W\d_]+")
_CLAUSE_END = re.compile(f"[{re.escape(END_MARKS)}]+\\s*")
_JOINTS = (" ", ", ", ". ")
_CLAUSE_WORDS = (2, 5)
_MOST_CHANGES = 2
_DRAWS_PER_DISTRACTOR = 20
_LOOK_ALIKE = MappingProxyType(
    dict(zip("aceipsxyABCEHIKMOPTXlo", "асеірѕхуАВСЕНІКМОРТХ10", strict=True))
)
"""Letters, and the Cyrillic ones and digits that are taken for them."""


class Edited(NamedTuple):
    """A changed text, and the row of the text that it was."""

    text: str
    row: int


def change_characters(text: str, rng: random.Random) -> str:
    """One or two characters mistyped or replaced by their likes, or the case of a word turned."""
    for _ in range(rng.randint(1, _MOST_CHANGES)):
        kind = rng.choice(("typo", "look-alike", "case"))
        if kind == "typo":
            text = add_typo(text, rng)
        elif kind == "look-alike":
            text = _with_look_alike(text, rng)
        else:
            text = _with_other_case(text, rng)
    return text


def _with_look_alike(text: str, rng: random.Random) -> str:
    places = [i for i, character in enumerate(text) if character in _LOOK_ALIKE]
    if not places:
        return text
    i = rng.choice(places)
    return text[:i] + _LOOK_ALIKE[text[i]] + text[i + 1 :]


def _with_other_case(text: str, rng: random.Random) -> str:
    words = list(WORD.finditer(text))
    if not words:
        return text
    start, end = rng.choice(words).span()
    return text[:start] + text[start:end].swapcase() + text[end:]


def change_words(text: str, synonyms: Synonyms, rng: random.Random) -> str:
    """One or two words replaced by synonyms; a text that has none for its words stays as it is."""
    known = [word for word in WORD.finditer(text) if _synonyms_of(word[0], synonyms)]
    chosen = rng.sample(known, min(len(known), rng.randint(1, _MOST_CHANGES)))
    # From behind, so that places before stay where they were.
    for word in sorted(chosen, key=lambda word: -word.start()):
        other = rng.choice(_synonyms_of(word[0], synonyms))
        if word[0][0].isupper():
            other = other[0].upper() + other[1:]
        text = text[: word.start()] + other + text[word.end() :]
    return text


def _synonyms_of(word: str, synonyms: Synonyms) -> Sequence[str]:
    return synonyms.get(word) or synonyms.get(word.lower()) or ()


def distract(text: str, other: str, rng: random.Random) -> str:
    """A clause of another text put before or behind."""
    clauses = [clause for clause in _CLAUSE_END.split(other) if clause.strip()]
    if not clauses:
        return text
    words = rng.choice(clauses).split()
    length = min(len(words), rng.randint(*_CLAUSE_WORDS))
    start = rng.randint(0, len(words) - length)
    clause = " ".join(words[start : start + length])
    first, second = (text.strip(), clause) if rng.random() < 0.5 else (clause, text.strip())
    joint = rng.choice(_JOINTS)
    return without_end_mark(first, joint) + joint + second


def edited(
    edit: Edit,
    texts: Sequence[str],
    rows: Sequence[int],
    answers: Sequence[int],
    *,
    num: int,
    seed: int,
    admit: Admit,
    synonyms: Synonyms,
) -> list[Edited]:
    """Up to `num` texts under one edit.

    Args:
        rows: of `texts`, those that may be changed and that distractors are taken from.
        answers: of each text, the teacher's; a distractor is from a text that has another.
        synonyms: words for a word.
    """
    rng = random.Random(f"{seed}/{edit}")

    def changed(row: int) -> str:
        if edit == "characters":
            return change_characters(texts[row], rng)
        if edit == "synonyms":
            return change_words(texts[row], synonyms, rng)
        for _ in range(_DRAWS_PER_DISTRACTOR):
            other = rng.choice(rows)
            if answers[other] != answers[row]:
                return distract(texts[row], texts[other], rng)
        return texts[row]

    def draws() -> Iterator[Edited]:
        while rows:
            row = rng.choice(rows)
            yield Edited(changed(row), row)

    return collected(draws(), num=num, admit=lambda made: admit(made.text))
