"""Words near each other in a token table, against all cosines."""

from __future__ import annotations

import numpy as np
import torch

from edgedistill.models.word_neighbours import nearest_words


def test_neighbours_by_all_cosines() -> None:
    torch.manual_seed(0)
    table = torch.randn(40, 5)
    tokens = {f"word{i}": 39 - i for i in range(30)}
    found = nearest_words(table, tokens, num=4)
    rows = table.double().numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for word, row in tokens.items():
        others = [other for other in tokens if other != word]
        others.sort(key=lambda other: -float(unit[tokens[other]] @ unit[row]))
        assert list(found[word]) == others[:4]


def test_words_of_one_row_are_no_neighbours() -> None:
    table = torch.eye(3)
    found = nearest_words(table, {"Order": 0, "order": 0, "parcel": 1}, num=5)
    assert found["Order"] == ("parcel",)
    assert found["parcel"] == ("Order", "order")
    assert nearest_words(table, {"only": 2}, num=5) == {"only": ()}
    assert nearest_words(table, {}, num=5) == {}
