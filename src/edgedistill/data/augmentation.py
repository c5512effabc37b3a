"""Label-free text augmentation: unlabelled texts for a teacher to label.

The texts made here are not meant to keep the label of the text they come from: a teacher
answers them, and a student learns the answers. Three ways of making a text are mixed:

* *dropout* leaves words out;
* *span mixing* joins the beginning of one text and the end of another;
* *typos* changes characters: a neighbouring key, a swap, a deletion or a doubling.

Words are what whitespace separates, characters are Unicode code points, and a character that
has no key in the layout (any other script) is swapped, deleted or doubled instead. Only
``random.Random`` decides, so that a seed gives the same texts on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import TypeAlias, TypeVar

#: Takes a text that was made, or refuses it.
Admit: TypeAlias = Callable[[str], bool]
T = TypeVar("T")

END_MARKS = ".,;:!?…。、！？"
_DRAWS_PER_TEXT = 20
_KEYBOARD_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")


def _keyboard_neighbours(rows: Sequence[str]) -> MappingProxyType[str, str]:
    """Map each key to the keys beside, above and below it."""
    at = {(r, c): key for r, row in enumerate(rows) for c, key in enumerate(row)}
    steps = ((0, -1), (0, 1), (-1, 0), (-1, 1), (1, 0), (1, -1))
    return MappingProxyType(
        {
            key: "".join(at.get((r + dr, c + dc), "") for dr, dc in steps)
            for (r, c), key in at.items()
        }
    )


_NEIGHBOURS = _keyboard_neighbours(_KEYBOARD_ROWS)


@dataclass(frozen=True, slots=True)
class AugmentationConfig:
    """How often each kind of text is made, and how strongly it is changed.

    Attributes:
        dropout_weight: Relative frequency of texts with words left out.
        mixing_weight: Relative frequency of texts joined from two.
        typo_weight: Relative frequency of texts with changed characters.
        max_dropout: A text's chance for each word to be left out is drawn from 0 to this.
        max_typos: A text gets 1 to this many changed characters.
        extra_dropout: Chance that a mixed or mistyped text loses words as well.
    """

    dropout_weight: float = 0.35
    mixing_weight: float = 0.5
    typo_weight: float = 0.15
    max_dropout: float = 0.5
    max_typos: int = 2
    extra_dropout: float = 0.2

    def __post_init__(self) -> None:
        weights = (self.dropout_weight, self.mixing_weight, self.typo_weight)
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError("weights must not be negative, and one must be positive")
        if not (0 <= self.max_dropout < 1 and 0 <= self.extra_dropout <= 1):
            raise ValueError("max_dropout must be in [0, 1) and extra_dropout in [0, 1]")
        if self.max_typos < 1:
            raise ValueError("max_typos must be at least 1")


def drop_words(text: str, rate: float, rng: random.Random) -> str:
    """Leave out each word with chance ``rate``; one word always stays."""
    words = text.split()
    kept = [word for word in words if rng.random() >= rate]
    return " ".join(kept or [rng.choice(words)]) if words else text


def mix_spans(first: str, second: str, rng: random.Random) -> str:
    """Join a non-empty beginning of ``first`` and a non-empty end of ``second``."""
    head, tail = first.split(), second.split()
    if not head or not tail:
        return first or second
    return " ".join(head[: rng.randint(1, len(head))] + tail[rng.randrange(len(tail)) :])


def add_typo(text: str, rng: random.Random) -> str:
    """Change one character that is not whitespace; a text without one is returned as it is."""
    places = [i for i, character in enumerate(text) if not character.isspace()]
    if not places:
        return text
    i = rng.choice(places)
    kind = rng.choice(("replace", "swap", "delete", "double"))
    neighbours = _NEIGHBOURS.get(text[i].lower(), "")
    if kind == "replace" and neighbours:
        return text[:i] + rng.choice(neighbours) + text[i + 1 :]
    if kind == "swap" and i + 1 < len(text):
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind == "delete" and len(places) > 1:
        return text[:i] + text[i + 1 :]
    return text[: i + 1] + text[i:]


def _make(texts: Sequence[str], config: AugmentationConfig, rng: random.Random) -> str:
    """Make one text of a kind drawn by the weights."""
    weights = (config.dropout_weight, config.mixing_weight, config.typo_weight)
    kind = rng.choices(("dropout", "mixing", "typo"), weights)[0]
    text, rate = rng.choice(texts), rng.uniform(0, config.max_dropout)
    if kind == "dropout":
        return drop_words(text, rate, rng)
    if kind == "mixing":
        text = mix_spans(text, rng.choice(texts), rng)
    else:
        for _ in range(rng.randint(1, config.max_typos)):
            text = add_typo(text, rng)
    return drop_words(text, rate, rng) if rng.random() < config.extra_dropout else text


def augment(
    texts: Sequence[str],
    *,
    num: int,
    seed: int,
    config: AugmentationConfig | None = None,
    admit: Admit | None = None,
) -> list[str]:
    """Make ``num`` new texts out of ``texts``.

    The result holds no text twice and none of ``texts``. It is shorter than ``num`` only where
    so few different texts can be made that ``20 * num`` attempts do not find them. The same
    texts, seed and config give the same result, and a smaller ``num`` gives its beginning,
    unless the attempts run out. ``admit`` may refuse more of them.
    """
    if num < 0:
        raise ValueError("num must not be negative")
    sources = [text for text in texts if text.strip()]
    if not sources:
        return []
    rng, settings, seen = random.Random(seed), config or AugmentationConfig(), set(texts)

    def draws() -> Iterator[str]:
        while True:
            yield _make(sources, settings, rng).strip()

    def is_new(text: str) -> bool:
        if not text or text in seen or (admit is not None and not admit(text)):
            return False
        seen.add(text)
        return True

    return collected(draws(), num=num, admit=is_new)


def without_end_mark(text: str, what_follows: str) -> str:
    """The text as it stands before what follows: two marks in a row are one, the second."""
    return text.rstrip(END_MARKS) or text if what_follows[:1] in tuple(END_MARKS) else text


def collected(draws: Iterable[T], *, num: int, admit: Callable[[T], bool]) -> list[T]:
    """The first `num` of `draws` that `admit` takes; fewer where 20 times as many do not hold
    them."""
    found = list[T]()
    for drawn in islice(draws, _DRAWS_PER_TEXT * num):
        if admit(drawn):
            found.append(drawn)
            if len(found) == num:
                break
    return found


def shared_out(num: int, parts: int) -> list[int]:
    """`num` in `parts` whole numbers that differ by one at most, larger ones first."""
    return [num // parts + (place < num % parts) for place in range(parts)]
