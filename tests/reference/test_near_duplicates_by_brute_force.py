"""The near-duplicate search against all pairs counted one by one."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

from edgedistill.data import near_duplicates
from edgedistill.data.duplicates import normalised
from edgedistill.data.near_duplicates import near_neighbours
from edgedistill.data.reading import read_examples

CLINC150 = Path(__file__).parents[3] / "shared" / "data" / "clinc150"


def trigrams(text: str) -> frozenset[str]:
    padded = f" {text} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


def brute_force(
    queries: list[str], corpus: list[str], threshold: float
) -> dict[int, tuple[int, float]]:
    sets = [trigrams(text) for text in corpus]
    found = {}
    for index, query in enumerate(queries):
        own = trigrams(query)
        similarity = [len(own & other) / len(own | other) for other in sets]
        best = max(range(len(sets)), key=similarity.__getitem__)
        if similarity[best] >= threshold - 1e-9:
            found[index] = (best, similarity[best])
    return found


def search(queries: list[str], corpus: list[str], threshold: float) -> dict[int, tuple[int, float]]:
    return {
        found.query: (found.corpus, pytest.approx(found.similarity))
        for found in near_neighbours(queries, corpus, threshold=threshold)
    }


def random_texts(rng: random.Random, count: int, alphabet: str, longest: int) -> list[str]:
    return ["".join(rng.choices(alphabet, k=rng.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize(("alphabet", "longest"), [("ab", 8), ("abc ", 30), ("aé€😀", 12)])
def test_random_texts(threshold: float, alphabet: str, longest: int) -> None:
    rng = random.Random(f"{threshold}{alphabet}")
    corpus = random_texts(rng, 150, alphabet, longest)
    queries = random_texts(rng, 50, alphabet, longest)
    queries += [text[:-1] + rng.choice(alphabet) for text in rng.sample(corpus, 50)]
    queries += [text * 2 for text in rng.sample(corpus, 20)]
    expected = brute_force(queries, corpus, threshold)
    assert expected
    assert search(queries, corpus, threshold) == expected


def test_small_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    corpus, queries = (random_texts(rng, n, "abc", 12) for n in (200, 100))
    expected = brute_force(queries, corpus, 0.6)
    monkeypatch.setattr(near_duplicates, "_CHUNK_CHARACTERS", 50)
    assert search(queries, corpus, 0.6) == expected


def test_template_rows_are_all_found_though_not_always_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_duplicates, "_NUM_FIRST", 5)
    corpus = [f"send parcel number {n:04d} to my home" for n in range(300)]
    queries = [f"send parcel number {n:04d} to our home" for n in range(0, 600, 7)]
    found = search(queries, corpus, 0.7)
    assert list(found) == list(brute_force(queries, corpus, 0.7))
    for query, (row, similarity) in found.items():
        assert brute_force([queries[query]], [corpus[row]], 0.7) == {0: (0, similarity)}


@pytest.mark.real
@pytest.mark.skipif(not CLINC150.is_dir(), reason="needs the public data beside the checkout")
def test_clinc150_in_time() -> None:
    texts = {
        split: [
            normalised(row.text)
            for row in read_examples(
                CLINC150 / f"{split}.jsonl", text_column="text", label_column="label"
            )
        ]
        for split in ("train", "test")
    }
    start = time.process_time()
    found = search(texts["test"], texts["train"], 0.8)
    elapsed_s = time.process_time() - start
    some = list(range(0, 4500, 150))
    expected = brute_force([texts["test"][i] for i in some], texts["train"], 0.8)
    assert {some[i]: pair for i, pair in expected.items()} == {
        i: found[i] for i in some if i in found
    }
    assert expected
    if sys.gettrace() is None:
        assert elapsed_s < 10
