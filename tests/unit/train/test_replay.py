"""Replay: every new row once an epoch, earlier ones in turn."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.core.artefacts import Encoded
from edgedistill.train.batches import TrainingSet
from edgedistill.train.replay import Replayed, joined


def rows(num: int, label: int, seed: int) -> TrainingSet:
    rng = np.random.default_rng(seed)
    texts = [[label] * int(n) for n in rng.integers(1, 9, num)]
    return TrainingSet(Encoded.from_lists(texts), np.full(num, label), 0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 40), st.floats(0.001, 0.999), st.integers(2, 17),
    st.integers(0, 5),
)  # fmt: skip
def test_batches_hold_what_they_should(
    num_new: int, num_earlier: int, share: float, size: int, epoch: int
) -> None:
    data = Replayed(rows(num_new, 1, 0), rows(num_earlier, 2, 1), share)
    batches = data.rows(size, 7, epoch)
    assert len(batches) == data.num_batches(size, 7, epoch)
    replayed = data.num_replayed(size)
    assert 1 <= replayed <= size - 1
    assert abs(replayed - share * size) <= 0.5 or replayed in (1, size - 1)
    every = np.concatenate(batches)
    assert sorted(every[every < num_new]) == list(range(num_new))
    for batch in batches:
        assert (batch >= num_new).sum() == replayed
        assert len(batch) <= size
    counts = np.bincount(every[every >= num_new] - num_new, minlength=num_earlier)
    assert counts.max() - counts.min() <= 1
    again = data.rows(size, 7, epoch)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_batches_carry_texts_and_labels_of_both() -> None:
    new, earlier = rows(9, 1, 0), rows(4, 2, 1)
    data = Replayed(new, earlier, 0.25)
    batches = list(data.batches(4, 0, 0, torch.device("cpu")))
    assert len(batches) == 3
    for batch in batches:
        assert (batch.labels == 2).sum() == 1
        # Each text is its label, over and over.
        mask = batch.attention_mask.bool()
        assert (batch.input_ids[mask] == batch.labels[:, None].expand_as(mask)[mask]).all()
        assert (batch.input_ids[~mask] == 0).all()
    first, second = (np.concatenate(data.rows(4, 0, epoch)) for epoch in (0, 1))
    assert (first != second).any()


def test_sets_are_joined_text_by_text() -> None:
    sets = [rows(3, 1, 0), rows(1, 2, 1), rows(5, 3, 2)]
    together = joined(sets)
    lengths = np.concatenate([each.texts.lengths for each in sets])
    np.testing.assert_array_equal(together.texts.lengths, lengths)
    np.testing.assert_array_equal(np.repeat(together.labels, lengths), together.texts.ids)
