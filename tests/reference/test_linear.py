"""The linear control's network against scikit-learn's own pipeline on the same terms."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.svm import LinearSVC

from edgedistill.core.artefacts import Encoded
from edgedistill.models.students.family import Material
from edgedistill.models.students.linear import LinearConfig, build, term_counts
from edgedistill.models.students.vocabulary import KeptVocabulary


def material(num_labels: int) -> Material:
    rng = np.random.default_rng(num_labels)
    targets = rng.integers(0, num_labels, 120)
    rows = [[2, *(4 + (t * 5 + rng.integers(0, 8, 6)) % 30).tolist(), 3] for t in targets]
    kept = KeptVocabulary(torch.arange(34), torch.arange(34, dtype=torch.int16))
    return Material(
        torch.nn.Identity(), kept, Encoded.from_lists(rows), targets, num_labels, 64, 0, 0
    )


@pytest.mark.parametrize("num_labels", [2, 5])
@pytest.mark.parametrize("num_buckets", [0, 64])
def test_scores_equal_those_of_scikit_learn(num_labels: int, num_buckets: int) -> None:
    given = material(num_labels)
    model = build(given, LinearConfig(num_buckets=num_buckets)).eval()
    counts = term_counts(model, given.train, 0)
    tfidf = TfidfTransformer().fit(counts)
    svm = LinearSVC(C=1.0, random_state=0).fit(tfidf.transform(counts), given.targets)
    expected = svm.decision_function(tfidf.transform(counts))
    ids, mask = given.train.padded(np.arange(120), 0)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()
    if num_labels == 2:
        np.testing.assert_allclose(logits[:, 1], expected, rtol=1e-3, atol=1e-4)
    else:
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_counts_are_those_of_the_terms() -> None:
    given = material(3)
    model = build(given, LinearConfig(num_buckets=64))
    counts = term_counts(model, given.train, 0)
    lengths = given.train.lengths
    np.testing.assert_array_equal(np.asarray(counts.sum(1)).ravel(), 2 * lengths - 1)
    text = given.train.ids[: lengths[0]]
    for token in set(text.tolist()):
        assert counts[0, token] == (text == token).sum()


def test_padding_changes_nothing() -> None:
    given = material(4)
    model = build(given, LinearConfig()).eval()
    ids, mask = given.train.padded(np.arange(1), 0)
    wide, wide_mask = np.pad(ids, ((0, 0), (0, 9))), np.pad(mask, ((0, 0), (0, 9)))
    with torch.no_grad():
        alone = model(torch.from_numpy(ids), torch.from_numpy(mask)).logits
        padded = model(torch.from_numpy(wide), torch.from_numpy(wide_mask)).logits
    torch.testing.assert_close(alone, padded)
