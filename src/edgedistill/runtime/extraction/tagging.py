"""From logits of tokens to spans: begin-inside-outside tags under their grammar.

Tags are numbered O, B-first, I-first, B-second, I-second, … in the order of the fields.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

OUTSIDE = 0
_MOST_EXPONENT = 690.0


def tag_names(fields: Sequence[str]) -> tuple[str, ...]:
    """Names of the tags in their order."""
    return ("O", *(f"{mark}-{name}" for name in fields for mark in "BI"))


def begin_tag(field: int) -> int:
    """The tag of the first token of a field's span; the next tag is that of its other tokens."""
    return 1 + 2 * field


def best_tags(
    logits: np.ndarray, begins_word: np.ndarray, *, whole_words: bool = False
) -> np.ndarray:
    """The likeliest legal tags of a text, int64 [n], of logits [n, tags].

    Legal: I-x follows B-x or I-x. With `whole_words`, a token within a word goes on with what the
    one before it is. Tokens are scored one by one, so the sum of logits ranks the sequences as
    the product of probabilities does; the best legal one is found exactly (Viterbi 1967).

    Args:
        begins_word: bool [n], whether a token is the first of its word.
    """
    best: np.ndarray = logits.argmax(axis=1)
    inner = (~begins_word).tolist() if whole_words else [False] * len(logits)
    if _is_legal(best.tolist(), inner):
        return best
    return _viterbi(np.asarray(logits, dtype=np.float64), inner)


def _is_legal(tags: Sequence[int], inner: Sequence[bool]) -> bool:
    # A loop: for the tokens of one text it takes a fifth of what a dozen array operations do.
    before = OUTSIDE
    for place, (tag, is_inner) in enumerate(zip(tags, inner, strict=True)):
        if tag and tag % 2 == 0 and before not in (tag, tag - 1):
            return False
        # Within a word there is no beginning, and nothing ends.
        if is_inner and place and (tag % 2 or (tag == OUTSIDE) != (before == OUTSIDE)):
            return False
        before = tag
    return True


def _viterbi(logits: np.ndarray, inner: Sequence[bool]) -> np.ndarray:
    num, num_tags = logits.shape
    begins, insides = np.arange(1, num_tags, 2), np.arange(2, num_tags, 2)
    score = logits[0].copy()
    score[insides] = -np.inf
    came_from = np.empty((num, num_tags), dtype=np.int64)
    for place in range(1, num):
        came, after = came_from[place], np.empty(num_tags)
        came[insides] = np.where(score[begins] >= score[insides], begins, insides)
        after[insides] = score[came[insides]]
        if inner[place]:
            came[OUTSIDE], after[OUTSIDE] = OUTSIDE, score[OUTSIDE]
            came[begins], after[begins] = OUTSIDE, -np.inf
        else:
            best = int(score.argmax())
            came[OUTSIDE] = came[begins] = best
            after[OUTSIDE] = after[begins] = score[best]
        score = after + logits[place]
    tags = np.empty(num, dtype=np.int64)
    tags[-1] = score.argmax()
    for place in range(num - 1, 0, -1):
        tags[place - 1] = came_from[place, tags[place]]
    return tags


def spans_of(tags: np.ndarray) -> list[tuple[int, int, int]]:
    """(field, first token, last token) of each span of legal tags, in order."""
    found: list[tuple[int, int, int]] = []
    for place, tag in enumerate(tags.tolist()):
        if tag == OUTSIDE:
            continue
        if tag % 2:
            found.append(((tag - 1) // 2, place, place))
        else:
            field, first, _ = found[-1]
            found[-1] = (field, first, place)
    return found


def tag_probabilities(logits: np.ndarray, tags: np.ndarray, temperature: float) -> np.ndarray:
    """Probability of each token's tag under softmax(logits / temperature), float64 [n]."""
    chosen = logits[np.arange(len(tags)), tags]
    ahead = np.subtract(logits, chosen[:, None], dtype=np.float64)
    ahead /= temperature
    # Beyond it the probability is below 1e-300, and the sum would overflow.
    np.minimum(ahead, _MOST_EXPONENT, out=ahead)
    return np.asarray(1.0 / np.exp(ahead, out=ahead).sum(axis=1))


def document_logits(logits: np.ndarray) -> np.ndarray:
    """What the guard reads of a text, float32 [1, tags], of logits [n, tags].

    The mean over tokens of their largest logit, of their second largest, …: which tag is largest
    tells what a text holds, how far it stands out tells whether the model knows such texts.
    """
    sums = np.add.reduce(np.sort(logits, axis=1), axis=0, keepdims=True)
    return np.asarray(sums[:, ::-1] / len(logits), dtype=np.float32)
