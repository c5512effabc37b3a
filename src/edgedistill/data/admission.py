"""Which of the texts that are made may be learned."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence

from edgedistill.core.task import InputSpec
from edgedistill.data.duplicates import normalised


class Admission:
    """Takes each made text once, and none that is kept for scoring or that the model would refuse.

    Two texts that become the same tokens are one, to the teacher and to every student; a text is
    kept for scoring where one is that differs from it in case, punctuation and space alone.

    Args:
        texts: those that are learned already.
        held_out: those that are kept for scoring.
        limits: of the inputs of the model.
        ids: token ids of a text, uncut.
    """

    def __init__(
        self,
        texts: Iterable[str],
        held_out: Iterable[str],
        limits: InputSpec,
        ids: Callable[[str], Sequence[int]],
    ) -> None:
        self._limits, self._ids = limits, ids
        self._held_out = frozenset(normalised(text) for text in held_out)
        self._taken = {array("i", ids(text)).tobytes() for text in texts}

    def __call__(self, text: str) -> bool:
        """Whether the text is new and may be learned; it is not new from then on."""
        limits = self._limits
        is_long = len(text) > limits.max_characters
        if is_long or len(text.strip()) < limits.min_characters:
            return False
        ids = array("i", self._ids(text))
        key = ids.tobytes()
        if len(ids) > limits.max_tokens or key in self._taken:
            return False
        if normalised(text) in self._held_out:
            return False
        self._taken.add(key)
        return True
