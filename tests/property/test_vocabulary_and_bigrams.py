"""Pruned vocabularies and hashed bigrams, on any tokens."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.models.students.ngrams import bigram_buckets
from edgedistill.models.students.vocabulary import keep_tokens, used_tokens

SIZE = 40
TOKENS = st.integers(0, SIZE - 1)
TEXTS = st.lists(st.lists(TOKENS, max_size=8), max_size=12)


@given(TEXTS, st.integers(1, 4))
def test_used_tokens_are_those_that_occur_often_enough(
    texts: list[list[int]], min_count: int
) -> None:
    everything = [token for text in texts for token in text]
    expected = [t for t in range(SIZE) if everything.count(t) >= min_count]
    found = used_tokens(texts, vocabulary_size=SIZE, min_count=min_count)
    assert found.tolist() == expected
    packed = used_tokens([np.array(everything, int)], vocabulary_size=SIZE, min_count=min_count)
    assert packed.tolist() == expected


@settings(deadline=None)
@given(st.sets(TOKENS, min_size=1), st.sets(st.integers(0, 5), max_size=4), st.integers(0, 99))
def test_every_token_is_read_as_itself_or_its_nearest_kept_word(
    kept: set[int], special: set[int], seed: int
) -> None:
    words = sorted(kept - special)
    if not words:
        return
    table = torch.randn(SIZE, 6, generator=torch.Generator().manual_seed(seed))
    found = keep_tokens(table, kept, special)
    ids = found.token_ids.tolist()
    assert ids == sorted(kept | special)
    rows = found.vocabulary_map.tolist()
    assert len(rows) == SIZE
    unit = F.normalize(table, dim=1)
    for token in range(SIZE):
        read_as = ids[rows[token]]
        if token in ids:
            assert read_as == token
        else:
            # A token that was dropped never becomes padding or a mark.
            assert read_as in words
            cosines = unit[words] @ unit[token]
            assert float(unit[read_as] @ unit[token]) >= float(cosines.max()) - 1e-6


def test_rows_beyond_int16_are_counted_in_int32() -> None:
    table = torch.ones(40_000, 1)
    small = keep_tokens(table, [0], range(1, 2**15 - 1))
    large = keep_tokens(table, [0], range(1, 2**15))
    assert small.vocabulary_map.dtype == torch.int16
    assert large.vocabulary_map.dtype == torch.int32
    for found in (small, large):
        assert int(found.vocabulary_map.min()) >= 0
        assert int(found.vocabulary_map.max()) == len(found.token_ids) - 1


ROWS = st.lists(st.integers(0, 300_000), min_size=1, max_size=10)


@given(ROWS, st.integers(1, 1_000_000))
def test_buckets_are_the_hash_in_exact_arithmetic(rows: list[int], num_buckets: int) -> None:
    before = [0, *rows[:-1]]
    expected = [
        (row * 7919 + previous * 104_729) % num_buckets
        for row, previous in zip(rows, before, strict=True)
    ]
    found = bigram_buckets(torch.tensor([rows]), num_buckets)
    assert found.tolist() == [expected]
    assert found.dtype == torch.int64


@given(ROWS, st.lists(st.integers(0, 300_000), max_size=5))
def test_a_bucket_depends_on_the_token_and_the_one_before_it_alone(
    rows: list[int], after: list[int]
) -> None:
    alone = bigram_buckets(torch.tensor([rows]), 4096)
    longer = bigram_buckets(torch.tensor([rows + after]), 4096)
    assert torch.equal(longer[:, : len(rows)], alone)
    shifted = bigram_buckets(torch.tensor([[7, *rows]]), 4096)
    assert torch.equal(shifted[:, 2:], alone[:, 1:])


def test_pairs_spread_over_the_buckets() -> None:
    first, second = torch.meshgrid(torch.arange(60), torch.arange(60), indexing="ij")
    pairs = torch.stack([first.flatten(), second.flatten()], dim=1)
    buckets = bigram_buckets(pairs, 4096)[:, 1]
    # A random hash would use 4096 · (1 - e^(-3600/4096)) = 2395 buckets.
    assert len(buckets.unique()) > 0.85 * 2395
    assert (
        bigram_buckets(torch.tensor([[1, 2]]), 4096)[0, 1]
        != (bigram_buckets(torch.tensor([[2, 1]]), 4096)[0, 1])
    )
