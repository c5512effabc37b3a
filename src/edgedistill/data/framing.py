"""Texts in frames that people put around them: templates of the user's own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from edgedistill.core.augmentation import PLACE
from edgedistill.data.augmentation import Admit, collected, without_end_mark


def framed(
    texts: Sequence[str], templates: Sequence[str], *, num: int, seed: int, admit: Admit
) -> list[str]:
    """Up to `num` texts in a template each: pairs are drawn at random, none twice.

    A text goes in as it is but for space around it, and for its last mark where the template goes
    on with one.
    """
    pairs = range(len(texts) * len(templates))

    def draws() -> Iterator[str]:
        for pair in random.Random(f"{seed}/paraphrases").sample(pairs, len(pairs)):
            text, template = divmod(pair, len(templates))
            before, _, behind = templates[template].partition(PLACE)
            yield f"{before}{without_end_mark(texts[text].strip(), behind)}{behind}".strip()

    return collected(draws(), num=num, admit=admit)
