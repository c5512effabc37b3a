"""Answers held to a grammar, token by token, through the library `llguidance`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from edgedistill.core.errors import MissingExtra, SpecError


class Constraint:
    """Where one answer stands in its grammar."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def allowed(self) -> np.ndarray:
        """Which tokens may come next, bool [vocabulary]; the end token where the text is whole.

        Raises:
            SpecError: none may, or the grammar is too large to follow.
        """
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        mask = np.unpackbits(packed, bitorder="little")[: self._vocab_size].astype(bool)
        self._require_sound()
        if not mask.any():
            raise SpecError(
                "no token of the model continues the text as the grammar asks",
                fix="a grammar that the model's tokens can spell",
            )
        return mask

    def take(self, token: int) -> None:
        """Go on by a token that was allowed."""
        self._matcher.consume_token(token)
        self._require_sound()

    def copy(self) -> Constraint:
        """The same place, to be left in another direction."""
        return Constraint(self._matcher.deep_copy(), self._vocab_size)

    def _require_sound(self) -> None:
        # The library raises nothing: it keeps an error, and from then on allows no token.
        if self._matcher.is_error():
            raise _refused(self._matcher.get_error())


class Constraints:
    """Grammars over the tokens of one model. Each is read once: that takes milliseconds.

    Args:
        tokenizer_json, vocab_size, end_ids: of the model.

    Raises:
        MissingExtra: `llguidance` is not installed.
    """

    def __init__(self, tokenizer_json: str, vocab_size: int, end_ids: Sequence[int]) -> None:
        try:
            import llguidance
        except ImportError as error:
            raise MissingExtra("answers by a grammar in ONNX Runtime", "llm") from error
        if not end_ids:
            raise SpecError("a grammar for a model that has no end token", fix="leave it out")
        self._library, self._vocab_size = llguidance, vocab_size
        self._tokenizer = llguidance.LLTokenizer(
            tokenizer_json, n_vocab=vocab_size, eos_token=list(end_ids)
        )
        self._matcher = lru_cache(maxsize=8)(self._read)

    def start(self, grammar: str) -> Constraint:
        """The beginning of an answer by `grammar` (GBNF).

        Raises:
            SpecError: it cannot be read.
        """
        return Constraint(self._matcher(grammar).deep_copy(), self._vocab_size)

    def _read(self, grammar: str) -> Any:
        from llguidance.gbnf_to_lark import gbnf_to_lark

        if not grammar.strip():
            raise SpecError("an empty grammar", fix="GBNF, with a rule named root")
        if grammar.lstrip().startswith("%llguidance"):
            raise SpecError("a grammar of LLGuidance", fix="GBNF")
        try:
            lark = gbnf_to_lark(grammar)
        except Exception as error:  # the translator raises plain Exception
            raise _refused(str(error)) from error
        matcher = self._library.LLMatcher(
            self._tokenizer, self._library.LLMatcher.grammar_from_lark(lark), log_level=0
        )
        if matcher.is_error():
            raise _refused(matcher.get_error())
        return matcher


def _refused(why: str) -> SpecError:
    first = why.strip().splitlines()[0] if why.strip() else "no reason told"
    return SpecError(f"the grammar cannot be followed: {first}", fix="GBNF, with a rule named root")
