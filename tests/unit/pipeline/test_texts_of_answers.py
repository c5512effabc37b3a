"""Texts that follow from the teacher's answers: what is made, kept, counted and told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.core.artefacts import Dataset, Example
from edgedistill.core.augmentation import TextAugmentation
from edgedistill.core.task import TaskSpec
from edgedistill.data.adversarial import Edited
from edgedistill.pipeline.stages.made_texts import (
    TextMaker,
    asked_for,
    keep_unfooled,
    late_stages,
    notes_on,
)
from edgedistill.tasks.classification import TextEncoder

TRAIN = ["where is my order", "cancel my order", "refund my money", "cancel it now", "stop it now"]


def examples(*texts: str) -> tuple[Example, ...]:
    return tuple(Example(text, text, "a") for text in texts)


def maker(teacher: Path, augmentation: Any, **splits: tuple[Example, ...]) -> TextMaker:
    spec = TaskSpec.model_validate(
        {
            "name": "x", "data": {"files": {"train": "t"}}, "teacher": {"source": "hub:a/b"},
            "boundary": {"edge_cases": "e"}, "distillation": {"augmentation": augmentation},
        }
    )  # fmt: skip
    whole = {"train": examples(*TRAIN), "validation": (), "test": ()} | splits
    dataset = Dataset(labels=("a", "b"), **whole)  # type: ignore[arg-type]
    return TextMaker(spec, dataset, TextEncoder(teacher / "tokenizer.json", 64))


LOGITS = np.array([[4.0, 0], [0, 0.1], [4, 0], [0, 5], [0, 3]])


def test_rows_that_are_scored_too_are_never_varied(teacher_folder: Path) -> None:
    made = maker(
        teacher_folder, {"num_texts": 40, "adversarial": {"num_texts": 90}},
        test=examples("Cancel my order!", "where is my money"),
    )  # fmt: skip
    assert made.rows == [0, 2, 3, 4]
    (mixed,) = made.unread().values()
    assert len(mixed) == 40
    assert "where is my money" not in mixed
    edits = made.read(LOGITS, torch.randn(made.encoder.num_tokens, 8))
    assert {edit.row for each in edits.values() for edit in each} <= {0, 2, 3, 4}
    assert all(edits.values())


def test_near_texts_meet_those_of_their_second_answer(teacher_folder: Path) -> None:
    made = maker(teacher_folder, {"num_texts": 0, "edge_cases": {"near_share": 0.1}})
    (edges,) = made.read(LOGITS, torch.zeros(made.encoder.num_tokens, 2)).values()
    # The second row is the nearest, its second answer is that of the first and third.
    words = {word for edit in edges for word in edit.text.split() if len(word) > 2}
    assert {"cancel", "order", "where", "refund", "money"} <= words
    assert not {"now", "stop"} & words
    assert {edit.row for edit in edges} == {-1}


def test_edge_cases_of_the_file_are_varied_but_for_scored_ones(teacher_folder: Path) -> None:
    made = maker(
        teacher_folder, {"num_texts": 0, "edge_cases": {"of": ["edge_cases"], "num_texts": 20}},
        edge_cases=examples("send broken parcel", "late shop"), test=examples("late shop"),
    )  # fmt: skip
    (edges,) = made.read(LOGITS, torch.zeros(made.encoder.num_tokens, 2)).values()
    texts = [edit.text for edit in edges]
    assert len(texts) == 20
    assert any("parcel" in text for text in texts)
    assert not any("late" in text or "shop" in text for text in texts)
    assert "send broken parcel" not in texts


def test_synonyms_are_whole_words_of_the_task(teacher_folder: Path) -> None:
    made = maker(
        teacher_folder, {"num_texts": 0, "adversarial": {"edits": ["synonyms"], "num_texts": 9}},
        unlabelled=examples("Cancel my ORDER", "unknownword"),
    )  # fmt: skip
    table = torch.zeros(made.encoder.num_tokens, 3)
    near = {"cancel": [1.0, 0, 0], "stop": [1.0, 0.1, 0], "order": [0, 1.0, 0]}
    for word, row in near.items():
        (token,) = (i for i in made.encoder.ids(word) if i not in made.encoder.special_ids)
        table[token] = torch.tensor(row)
    neighbours = made._synonyms(table)
    assert neighbours["cancel"][0] == "stop"
    assert set(neighbours) == {word for text in TRAIN for word in text.split() if len(word) > 2}


def test_what_fools_the_teacher_is_left_out() -> None:
    made = {"edge cases": [Edited("e", -1)], "synonyms": [Edited("s", 0), Edited("t", 1)],
            "distractors": [Edited("d", 1)]}  # fmt: skip
    logits = np.array([[0.0, 1], [1, 0], [1, 0], [0, 1]])
    kept, rows = keep_unfooled(made, logits, np.array([0, 1]))
    assert kept == {"edge cases": ["e"], "synonyms": ["s"], "distractors": ["d"]}
    assert rows.tolist() == [0, 1, 3]
    kept, rows = keep_unfooled({"synonyms": []}, np.empty((0, 0)), np.array([0]))
    assert (kept, rows.tolist()) == ({"synonyms": []}, [])


def test_kinds_are_counted_told_and_staged() -> None:
    settings = TextAugmentation.model_validate(
        {
            "num_texts": 3, "paraphrases": {"templates": ["a {text}"], "num_texts": 2},
            "edge_cases": {"num_texts": 1, "of": ["edge_cases"]},
            "adversarial": {"num_texts": 5, "edits": ["synonyms", "characters"]},
        }
    )  # fmt: skip
    asked = asked_for(settings)
    assert asked == {
        "mixed": 3, "paraphrases": 2, "edge cases": 1, "synonyms": 3, "characters": 2
    }  # fmt: skip
    assert sum(asked.values()) == settings.most_texts
    (varied,) = notes_on(settings, asked)
    assert "variants of the edge cases" in varied
    fewer, _ = notes_on(settings, asked | {"synonyms": 1})
    assert "Of 3 texts asked for (synonyms) 1 are learned" in fewer
    assert notes_on(TextAugmentation(num_texts=3), {"mixed": 3}) == []
    stages = late_stages(2, asked).tolist()
    assert stages == [0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2, 2, 2]
