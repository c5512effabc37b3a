"""Texts that are nearly equal: Jaccard similarity of character trigrams, none missed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDING = 1e-9
_NUM_SHARED = 4  # a higher number makes longer prefixes and fewer candidates
_NUM_FIRST = 1000
_CHUNK_CHARACTERS = 4_000_000


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A query, a text of the corpus that is near to it, and their similarity in (0, 1]."""

    query: int
    corpus: int
    similarity: float


def near_neighbours(
    queries: Sequence[str], corpus: Sequence[str], *, threshold: float
) -> list[Neighbour]:
    """A corpus text at `threshold` or above for each query that has one, in order of queries.

    It is the nearest, the first of equally near ones. Only where more than 1,000 corpus texts
    come into question, as in rows made from a template, the nearest of those 1,000 that share
    most of the query's rarest trigrams is taken for good if it reaches the threshold.

    Similarity is |A ∩ B| / |A ∪ B| over the sets of character trigrams, with a space put
    before and behind each text. No near query is missed: candidates come from an inverted
    index over each text's rarest trigrams and are then counted exactly. Two texts that reach
    the threshold share at least k trigrams of their prefixes of k - 1 more trigrams than the
    prefix filter has (Chaudhuri et al. 2006, "A Primitive Operator for Similarity Joins in
    Data Cleaning"; Wang et al. 2012, "Can We Beat the Prefix Filtering?").

    Args:
        queries, corpus: non-empty texts, normalised as the caller sees fit.
        threshold: in (0, 1].
    """
    best: dict[int, Neighbour] = {}
    for start, chunk in _chunks(corpus):
        for found in _search(queries, chunk, threshold):
            if found.query not in best or found.similarity > best[found.query].similarity:
                best[found.query] = Neighbour(found.query, start + found.corpus, found.similarity)
    return [best[query] for query in sorted(best)]


def _chunks(corpus: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Parts of the corpus that bound the memory of a search, each with its start."""
    start, num_characters = 0, 0
    for end, text in enumerate(corpus, start=1):
        num_characters += len(text)
        if num_characters >= _CHUNK_CHARACTERS or end == len(corpus):
            yield start, corpus[start:end]
            start, num_characters = end, 0


def _search(queries: Sequence[str], corpus: Sequence[str], threshold: float) -> list[Neighbour]:
    grams = _GramSets([*corpus, *queries], num_counted=len(corpus))
    index = _PrefixIndex(grams, len(corpus), threshold)
    found = []
    for query in range(len(queries)):
        row = len(corpus) + query
        candidates = index.candidates(row)
        for part in (candidates[:_NUM_FIRST], candidates[_NUM_FIRST:]):
            if not part.size:
                break
            ordered = np.sort(part)
            similarity = grams.similarities(row, ordered)
            best = int(similarity.argmax())
            if similarity[best] >= threshold - _ROUNDING:
                found.append(Neighbour(query, int(ordered[best]), float(similarity[best])))
                break
    return found


class _GramSets:
    """Trigram sets of texts: text i has `ids[starts[i]:starts[i + 1]]`, rarest first.

    `num_counted`: how many of the first texts rarity is counted over.
    """

    def __init__(self, texts: Sequence[str], num_counted: int) -> None:
        padded = [f" {text} " for text in texts]
        points = np.frombuffer(
            "".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32
        ).astype(np.int64)
        row = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
        inside = row[:-2] == row[2:]
        # Code points have 21 bits: three fit into one int64.
        codes = ((points[:-2] << 42) | (points[1:-1] << 21) | points[2:])[inside]
        distinct, ids = np.unique(codes, return_inverse=True)
        self.num_grams = len(distinct)
        pairs = np.unique(row[:-2][inside] * self.num_grams + ids)
        rows, ids = np.divmod(pairs, self.num_grams)
        counts = np.bincount(ids[rows < num_counted], minlength=self.num_grams)
        rank = np.empty(self.num_grams, dtype=np.int64)
        rank[np.argsort(counts, kind="stable")] = np.arange(self.num_grams)
        self.ids = np.sort(rows * self.num_grams + rank[ids]) % self.num_grams
        self.sizes = np.bincount(rows, minlength=len(padded))
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self._is_in_query = np.zeros(self.num_grams, dtype=np.int64)

    def of(self, row: int) -> np.ndarray:
        """Trigrams of one text, rarest first."""
        return self.ids[self.starts[row] : self.starts[row + 1]]

    def similarities(self, row: int, others: np.ndarray) -> np.ndarray:
        """Jaccard similarity of one text with others, float64 [len(others)]."""
        self._is_in_query[self.of(row)] = 1
        sizes = self.sizes[others]
        ends = np.cumsum(sizes)
        positions = np.arange(ends[-1]) + np.repeat(self.starts[others] - ends + sizes, sizes)
        shared = np.add.reduceat(self._is_in_query[self.ids[positions]], ends - sizes)
        self._is_in_query[self.of(row)] = 0
        similarities: np.ndarray = shared / (self.sizes[row] + sizes - shared)
        return similarities


class _PrefixIndex:
    """Which of the first `num_rows` texts have a trigram in their prefix."""

    def __init__(self, grams: _GramSets, num_rows: int, threshold: float) -> None:
        self._grams, self._threshold, self._num_rows = grams, threshold, num_rows
        prefixes = [self._prefix(row) for row in range(num_rows)]
        rows = np.repeat(np.arange(num_rows), [len(prefix) for prefix in prefixes])
        ids = np.concatenate(prefixes)
        self._rows = rows[np.argsort(ids, kind="stable")]
        counts = np.bincount(ids, minlength=grams.num_grams)
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def candidates(self, row: int) -> np.ndarray:
        """Indexed texts that may reach the threshold with `row`, most in common first."""
        size = int(self._grams.sizes[row])
        lists = [self._rows[self._starts[g] : self._starts[g + 1]] for g in self._prefix(row)]
        num_shared = np.bincount(np.concatenate(lists), minlength=self._num_rows)
        found = np.flatnonzero(num_shared >= min(_NUM_SHARED, self._least_shared(size)))
        sizes = self._grams.sizes[found]
        least, most = self._threshold * size - _ROUNDING, size / self._threshold + _ROUNDING
        found = found[(sizes >= least) & (sizes <= most)]
        ordered: np.ndarray = found[np.argsort(-num_shared[found], kind="stable")]
        return ordered

    def _prefix(self, row: int) -> np.ndarray:
        size = int(self._grams.sizes[row])
        return self._grams.of(row)[: size - self._least_shared(size) + _NUM_SHARED]

    def _least_shared(self, size: int) -> int:
        """Trigrams that a text of `size` shares with any text at the threshold."""
        return math.ceil(self._threshold * size - _ROUNDING)
