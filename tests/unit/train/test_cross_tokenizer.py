"""Two vocabularies: probabilities by rank, from a teacher whose tokens begin where ours do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import small_llama
from edgedistill.core.errors import MissingSignal
from edgedistill.core.protocols import Signal
from edgedistill.train.distill.chunked import chunked_losses
from edgedistill.train.distill.cross_tokenizer import (
    AlignedNextToken,
    SortedTeacher,
    sorted_distance,
)
from edgedistill.train.sequences import SequenceBatch, SequenceSet
from edgedistill.train.tune.next_token import learned_logits

CPU, RNG = torch.device("cpu"), torch.Generator()
ROWS = [[7, 8, 9, 10, 11, 1], [12, 13, 14, 1], [15, 16, 17, 18, 19, 20, 21, 1]]


def sets(places: Any = None) -> tuple[SequenceSet, SequenceSet]:
    """The same examples for student and teacher; all their learned tokens aligned, or `places`."""
    learned = [[i > 1 for i in range(len(row))] for row in ROWS]
    theirs = SequenceSet.from_lists(ROWS, learned, small_llama.PAD)
    told = np.flatnonzero(theirs.learned) if places is None else np.array(places)
    return replace(theirs, signals={Signal.ALIGNED: told}), theirs


def batch_of(rows: SequenceSet) -> SequenceBatch:
    return rows.batch([[2], [0], [1]], CPU)


def doubled(width: int, **changes: Any) -> Any:
    model = small_llama.make_model(width=width, **changes).double()
    model.set_attn_implementation("eager")
    return model


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 7), st.integers(1, 7))
def test_the_distance_is_that_of_the_cheapest_matching(seed: int, wide: int, wider: int) -> None:
    rng = np.random.default_rng(seed)
    ours, theirs = (rng.dirichlet(np.full(n, 0.5), 3) for n in (wide, wider))
    found = sorted_distance(torch.from_numpy(ours), torch.from_numpy(theirs))
    size = max(wide, wider)
    for p, q, value in zip(ours, theirs, found.tolist(), strict=True):
        p, q = (np.pad(x, (0, size - len(x))) for x in (p, q))
        cost = np.abs(p[:, None] - q[None, :])
        assert value == pytest.approx(cost[linear_sum_assignment(cost)].sum(), abs=1e-12)
        assert -1e-12 <= value <= 2 + 1e-12
    shuffled = torch.from_numpy(rng.permuted(theirs, axis=1))
    assert torch.equal(sorted_distance(torch.from_numpy(ours), shuffled), found)
    assert sorted_distance(shuffled, torch.from_numpy(theirs)).tolist() == [0.0] * 3


@pytest.mark.parametrize("widths", [(5, 9), (9, 5), (6, 6)])
def test_its_slopes_are_those_of_finite_differences(widths: tuple[int, int]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, widths[0], dtype=torch.float64, requires_grad=True)
    hidden, head = torch.randn(3, 6).double(), torch.randn(widths[1], 6).double()
    loss = SortedTeacher(hidden, head, torch.tensor([2, -1, 0, 1]))
    assert torch.autograd.gradcheck(lambda x: loss(x, slice(0, 4)), (logits,))
    values = loss(logits, slice(0, 4))
    said = sorted_distance(logits[[2, 3, 0]].softmax(-1), (hidden @ head.T).softmax(-1))
    torch.testing.assert_close(values[[2, 3, 0]], said * 4 / 3)
    assert values[1] == 0.0


def test_rows_without_a_teacher_have_no_slope_and_chunks_change_nothing() -> None:
    torch.manual_seed(1)
    states, head = torch.randn(9, 4).double(), torch.randn(11, 4).double().requires_grad_()
    hidden, words = torch.randn(4, 6).double(), torch.randn(7, 6).double()
    which = torch.tensor([-1, -1, -1, 0, 1, -1, 2, 3, -1])
    found = []
    for size in (2, 3, 50):
        own = states.clone().requires_grad_()
        losses = {"soft": (1.0, SortedTeacher(hidden, words, which))}
        total = chunked_losses(own, head, losses, size)["soft"]
        found.append((total.item(), *torch.autograd.grad(total, (own, head))))
    kept = which >= 0
    wanted = sorted_distance((states[kept] @ head.T).softmax(-1), (hidden @ words.T).softmax(-1))
    for value, slopes, _ in found:
        assert value == pytest.approx(wanted.mean().item(), rel=1e-7)
        assert not slopes[~kept].any()
        assert slopes[kept].any(dim=1).all()
    torch.testing.assert_close(found[0][1:], found[2][1:])


def test_nothing_is_to_be_learned_from_oneself_nor_from_other_names() -> None:
    rows, theirs = sets()
    student = doubled(32)
    step = AlignedNextToken(doubled(32), theirs, hard_weight=0.5)
    assert step(student, batch_of(rows), rng=RNG)["soft"].item() == pytest.approx(0.0, abs=1e-6)
    teacher = doubled(64, tied=False)
    before = AlignedNextToken(teacher, theirs, hard_weight=0.5)(student, batch_of(rows), rng=RNG)
    names = torch.randperm(400, generator=torch.Generator().manual_seed(3))
    other = doubled(64, tied=False)
    with torch.no_grad():
        for table in (other.model.embed_tokens.weight, other.lm_head.weight):
            table[names] = table.clone()
    renamed = SequenceSet.from_lists(
        [names[row].tolist() for row in map(torch.tensor, ROWS)],
        [[i > 1 for i in range(len(row))] for row in ROWS],
        small_llama.PAD,
    )
    after = AlignedNextToken(other, renamed, hard_weight=0.5)(student, batch_of(rows), rng=RNG)
    assert before["soft"].item() > 0.1
    assert after["soft"].item() == pytest.approx(before["soft"].item(), rel=1e-6)


def test_the_teacher_is_heard_where_it_stands_in_another_text() -> None:
    """Its tokens are others, and so are their numbers."""
    longer = [[50, *row[:2], 51, 52, *row[2:]] for row in ROWS]
    theirs = SequenceSet.from_lists(
        longer, [[i > 4 for i in range(len(row))] for row in longer], small_llama.PAD
    )
    # Of the learned tokens of each example the 1st and the 3rd (of the second: the 2nd, its last).
    pairs = [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)]
    ours, _ = sets()
    first = np.flatnonzero(ours.learned)
    places = np.full(len(first), -1)
    for example, number in pairs:
        of_it = np.flatnonzero((first >= ours.texts.starts[example])
                               & (first < ours.texts.starts[example + 1]))  # fmt: skip
        places[of_it[number]] = theirs.texts.starts[example] + 5 + number
    rows, _ = sets(places)
    student, teacher = doubled(32), doubled(64)
    step = AlignedNextToken(teacher, theirs, hard_weight=0.25, chunk_size=2)
    terms = step(student, batch_of(rows), rng=RNG)
    distances: list[Tensor] = []
    for example, number in pairs:
        read = [
            model(input_ids=torch.tensor([ids])).logits[0, place - 1].softmax(-1)
            for model, ids, place in (
                (student, ROWS[example], 2 + number), (teacher, longer[example], 5 + number)
            )
        ]  # fmt: skip
        distances.append(sorted_distance(*(one[None] for one in read)))
    wanted = torch.cat(distances).mean().item()
    assert terms["soft"].item() == pytest.approx(0.75 * wanted, rel=1e-5)
    logits, targets = learned_logits(student, batch_of(rows))
    hard = torch.nn.functional.cross_entropy(logits, targets).item()
    assert terms["hard"].item() == pytest.approx(0.25 * hard, rel=1e-6)


def test_a_batch_without_one_common_beginning_is_learned_from_its_rows() -> None:
    rows, theirs = sets(np.full(int(sets()[0].learned.sum()), -1))
    student = small_llama.make_model(width=32).train()
    step = AlignedNextToken(small_llama.make_model(), theirs, hard_weight=0.3)
    terms = step(student, batch_of(rows), rng=RNG)
    assert terms["soft"].item() == 0.0
    torch.stack(list(terms.values())).sum().backward()
    assert all(values.grad.any() for values in student.parameters())
    with pytest.raises(MissingSignal, match="begin where the student's do"):
        theirs.require(step.needs)
    for weight in (0.0, 1.0):
        with pytest.raises(ValueError, match="hard_weight"):
            AlignedNextToken(student, theirs, hard_weight=weight)
