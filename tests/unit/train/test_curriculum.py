"""A curriculum: which texts an epoch has, when more are opened, and what a kill must not change."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import Event, silent
from edgedistill.core.protocols import ModelOutput, Signal
from edgedistill.core.strategies import CurriculumSpec
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.combined import Combined, Weighted
from edgedistill.train.distill.curriculum import Curriculum, Pace, distance, staged, unsureness
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.loop import LoopConfig, train

CPU = torch.device("cpu")


def texts(num: int) -> TrainingSet:
    """Texts of 1 to 4 tokens, the first of which is the text's number."""
    rng = np.random.default_rng(0)
    ids = [[1 + i, *rng.integers(1, 9, rng.integers(0, 4))] for i in range(num)]
    logits = rng.normal(size=(num, 3)).astype(np.float32)
    labels = np.full(num, -1)
    return TrainingSet(Encoded.from_lists(ids), labels, 0, {Signal.LOGITS: logits})


def pace(opened: int = 1, *, parts: int = 4, num_epochs: int = 100) -> Pace:
    made = Pace(CurriculumSpec(parts=parts), num_epochs)
    made.opened.fill_(opened)
    return made


@settings(max_examples=50, deadline=None)
@given(
    num=st.integers(1, 60), parts=st.integers(2, 7), opened=st.integers(1, 7),
    epoch=st.integers(0, 3),
)  # fmt: skip
def test_an_epoch_has_the_easiest_texts_and_is_as_long_as_all(
    num: int, parts: int, opened: int, epoch: int
) -> None:
    opened = min(parts, opened)
    difficulty = np.random.default_rng(num).permutation(num)
    rows = Curriculum(texts(num), difficulty, pace(opened, parts=parts)).rows(5, epoch)
    num_open = -(-num * opened // parts)
    counts = np.bincount(rows, minlength=num)
    assert len(rows) == num
    assert set(np.flatnonzero(counts)) == set(np.flatnonzero(difficulty < num_open))
    drawn = counts[counts > 0]
    assert drawn.max() - drawn.min() <= 1


def test_with_all_parts_open_it_is_the_training_set_itself() -> None:
    examples = texts(50)
    whole = Curriculum(examples, -examples.texts.lengths, pace(4))
    assert whole.num_batches(8, 1, 2) == examples.num_batches(8, 1, 2) == 7
    pairs = zip(whole.batches(8, 1, 2, CPU), examples.batches(8, 1, 2, CPU), strict=True)
    for ours, theirs in pairs:
        assert torch.equal(ours.input_ids, theirs.input_ids)
        assert torch.equal(ours.signals[Signal.LOGITS], theirs.signals[Signal.LOGITS])


def opened_after(scores: list[float], num_epochs: int, **changes: float) -> list[int]:
    made = Pace(CurriculumSpec.model_validate(changes), num_epochs)
    found = []
    for score in scores:
        before = int(made.opened)
        assert made.tell(score) == (int(made.opened) > before)
        found.append(int(made.opened))
    return found


def test_a_student_that_comes_no_closer_opens_the_next_part() -> None:
    assert opened_after([-3, -2, -2, -1, -1.5, -1.2, -0.9], 100) == [1, 1, 2, 2, 3, 4, 4]
    assert opened_after([-3, float("nan"), -2], 100) == [1, 2, 2]


def test_all_are_open_in_time_however_well_it_goes() -> None:
    better = [-1.0 / epoch for epoch in range(1, 9)]
    # After 0.5 of 8 epochs; three parts in a straight line until then.
    assert opened_after(better, 8) == [1, 2, 3, 4, 4, 4, 4, 4]
    assert opened_after(better[:3], 3) == [3, 4, 4]
    assert opened_after(better, 8, parts=2, all_by=0.75) == [1, 1, 1, 1, 1, 2, 2, 2]


def test_difficulty_by_hand() -> None:
    rng = np.random.default_rng(1)
    student, answers = 2 * rng.normal(size=(2, 6, 4))
    answers[0], answers[1] = [30.0, 0, 0, 0], 0.0
    unsure = unsureness(answers.astype(np.float16))
    assert unsure.argmin() == 0
    assert unsure.argmax() == 1
    q, p = (np.exp(x / 3) / np.exp(x / 3).sum(1, keepdims=True) for x in (student, answers))
    np.testing.assert_allclose(distance(student, answers, 3.0), (p * np.log(p / q)).sum(1))
    np.testing.assert_allclose(distance(answers, answers + 5, 3.0), 0.0, atol=1e-12)


def test_stages_come_one_after_the_other() -> None:
    unsure = np.array([0.5, -0.9, -0.1, -0.4, -0.2, -0.8, -0.3])
    late = np.array([0, 2, 0, 1, 0, 2, 0])
    difficulty, ends = staged(unsure, late)
    # The surer half of the ordinary texts, the other half, edge cases, adversarial ones.
    assert np.argsort(difficulty).tolist() == [6, 4, 2, 0, 3, 1, 5]
    assert ends == [2, 4, 5, 7]
    made = Pace(CurriculumSpec(by="stage"), 100, len(ends))
    curriculum = Curriculum(texts(7), difficulty, made, ends)
    for opened, those in ((1, {4, 6}), (2, {0, 2, 4, 6}), (3, {0, 2, 3, 4, 6}), (4, set(range(7)))):
        made.opened.fill_(opened)
        rows = curriculum.rows(0, 0)
        assert (len(rows), set(rows.tolist())) == (7, those)


def test_stages_without_a_text_are_none() -> None:
    assert staged(np.zeros(3), np.array([0, 0, 2]))[1] == [1, 2, 3]
    assert staged(np.zeros(1), np.array([0]))[1] == [1]
    assert staged(np.zeros(2), np.array([1, 1]))[1] == [2]
    assert staged(np.zeros(5), np.zeros(5, np.int64))[1] == [3, 5]


class Sum(nn.Module):
    """A table's rows, added up, as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        logits = (self.table(input_ids) * attention_mask[..., None]).sum(1)
        return ModelOutput(logits, logits)


class Killed(Exception):
    """In a training's place."""


def falling(speed: Pace, _: nn.Module) -> float:
    return -float(speed.epochs % 3)


def trained(folder: Path, *, killed_after: int | None) -> tuple[list[float], list[str]]:
    """Losses of eight epochs whose score falls now and then, and what was told."""

    def listen(event: Event) -> None:
        if event.message == f"epoch {killed_after} of 8":
            raise Killed

    examples, told = texts(40), list[str]()
    for attempt in range(2):
        torch.manual_seed(0)
        step = Combined([Weighted("response", Response(ResponseConfig()))])
        learner = step.learner(Sum())
        speed = Pace(CurriculumSpec(all_by=0.9), 8)
        learner.add_module("pace", speed)
        curriculum = Curriculum(examples, -examples.texts.lengths, speed)
        score = curriculum.followed(partial(falling, speed), told.append)
        try:
            result = train(
                learner, step, curriculum, score=score, stage="test", checkpoints=folder,
                config=LoopConfig(8, 0.05, batch_size=8, patience=9),
                listener=silent if attempt else listen,
            )  # fmt: skip
            return [entry["response/soft"] for entry in result.history], told
        except Killed:
            assert not attempt
    raise AssertionError


def test_a_killed_training_keeps_its_pace(tmp_path: Path) -> None:
    losses, told = trained(tmp_path / "whole", killed_after=None)
    assert told == [f"opens {n} of 4 parts of the texts" for n in (2, 3, 4)]
    again, told_again = trained(tmp_path / "cut", killed_after=3)
    assert again == losses
    assert told_again == told


@pytest.mark.parametrize(
    "wrong", [{"parts": 1}, {"all_by": 1.0}, {"by": "mood"}, {"by": "stage", "parts": 4}]
)
def test_settings_that_make_no_curriculum(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        CurriculumSpec.model_validate(wrong)
