"""The texts that are made for the transfer set, kind by kind."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import numpy as np

from edgedistill.core.artefacts import Dataset
from edgedistill.core.augmentation import EdgeCaseSpec, EdgeSource, Edit, TextAugmentation
from edgedistill.core.task import TaskSpec
from edgedistill.data.admission import Admission
from edgedistill.data.adversarial import WORD, Edited, edited
from edgedistill.data.augmentation import augment, shared_out
from edgedistill.data.duplicates import normalised
from edgedistill.data.edge_cases import DrawPair, edge_cases, near_boundary
from edgedistill.data.framing import framed
from edgedistill.tasks.classification import TextEncoder

if TYPE_CHECKING:
    from torch import Tensor

EDGE_CASES = "edge cases"
#: Words for a word, of which the teacher's answer then takes those that fit.
NUM_SYNONYMS = 5
#: Shorter words are mostly particles.
LEAST_LETTERS = 3


class TextMaker:
    """Makes the texts that the task asks for of its training texts and unlabelled pool.

    Texts that are kept for scoring are neither made nor made of: what stands in the training texts
    and in validation or test too is learned as it is, and varied never.
    """

    def __init__(self, spec: TaskSpec, dataset: Dataset, encoder: TextEncoder) -> None:
        self.settings, self.seed = spec.distillation.augmentation, spec.seed
        self.dataset, self.encoder = dataset, encoder
        self.real = dataset.texts("train") + dataset.texts("unlabelled")
        scored = dataset.texts("validation") + dataset.texts("test")
        self._scored = frozenset(normalised(text) for text in scored)
        outside = dataset.out_of_bounds
        held_out = [*scored, *dataset.texts("edge_cases")]
        held_out += [e.text for name, rows in outside.items() if name != "train" for e in rows]
        self.admit = Admission(self.real, held_out, spec.input, encoder.ids)
        self.rows = [row for row, text in enumerate(self.real) if self._may_vary(text)]

    def _may_vary(self, text: str) -> bool:
        return bool(text.strip()) and normalised(text) not in self._scored

    def unread(self) -> dict[str, list[str]]:
        """What needs no answer of the teacher, by kind."""
        sources = [self.real[row] for row in self.rows]
        num = self.settings.num_texts
        made = {"mixed": augment(sources, num=num, seed=self.seed, admit=self.admit)}
        if frames := self.settings.paraphrases:
            made["paraphrases"] = framed(
                sources, frames.templates, num=frames.num_texts, seed=self.seed, admit=self.admit
            )
        return made

    def read(self, logits: np.ndarray, table: Tensor) -> dict[str, list[Edited]]:
        """What follows from the teacher's answers, by kind.

        Args:
            logits: [real texts, classes].
            table: the teacher's token table.

        Returns:
            Texts with the row of the real text whose answer they are to have; -1: any.
        """
        made: dict[str, list[Edited]] = {}
        if edges := self.settings.edge_cases:
            sources = [self._pairs(source, edges, logits) for source in edges.of]
            usable = [source for source in sources if source is not None]
            texts = edge_cases(usable, num=edges.num_texts, seed=self.seed, admit=self.admit)
            made[EDGE_CASES] = [Edited(text, -1) for text in texts]
        if adversarial := self.settings.adversarial:
            answers = np.argmax(logits, axis=1).tolist()
            synonyms = self._synonyms(table) if "synonyms" in adversarial.edits else {}
            for edit in adversarial.edits:
                made[edit] = edited(
                    edit, self.real, self.rows, answers, num=asked_for(self.settings)[edit],
                    seed=self.seed, admit=self.admit, synonyms=synonyms,
                )  # fmt: skip
        return made

    def _pairs(
        self, source: EdgeSource, settings: EdgeCaseSpec, logits: np.ndarray
    ) -> DrawPair | None:
        """Draws texts of one source with their partners; None where it has none."""
        real = [self.real[row] for row in self.rows]
        if not real:
            return None
        if source == "near":
            return _near_pairs(real, logits[self.rows], settings.near_share)
        given = self.dataset.edge_cases
        if source == "out_of_bounds":
            given = self.dataset.out_of_bounds["train"]
        texts = [example.text for example in given if self._may_vary(example.text)]
        return _pairs_of(texts, real) if texts else None

    def _synonyms(self, table: Tensor) -> Mapping[str, Sequence[str]]:
        """The nearest words for each word of the texts that is one token, in small letters where
        these are the same token."""
        from edgedistill.models.word_neighbours import nearest_words

        special, words = set(self.encoder.special_ids), dict[int, str]()
        found = {word for row in self.rows for word in WORD.findall(self.real[row])}
        for word in sorted(found, key=lambda word: (word != word.lower(), word)):
            # As it stands within a text, behind a space.
            ids = [i for i in self.encoder.ids(f" {word}") if i not in special]
            if len(ids) == 1 and len(word) >= LEAST_LETTERS:
                words.setdefault(ids[0], word)
        tokens = {word: token for token, word in words.items()}
        return nearest_words(table, tokens, num=NUM_SYNONYMS)


def asked_for(settings: TextAugmentation) -> dict[str, int]:
    """How many texts the task asks for, by kind, in the order of the transfer set."""
    asked = {"mixed": settings.num_texts}
    if settings.paraphrases:
        asked["paraphrases"] = settings.paraphrases.num_texts
    if settings.edge_cases:
        asked[EDGE_CASES] = settings.edge_cases.num_texts
    if adversarial := settings.adversarial:
        shares = shared_out(adversarial.num_texts, len(adversarial.edits))
        asked |= zip(adversarial.edits, shares, strict=True)
    return asked


def late_stages(num_real: int, made: Mapping[str, int]) -> np.ndarray:
    """The stage of a curriculum that each text belongs to, int64 [n]: 0 for ordinary texts, 1 for
    edge cases, 2 for adversarial ones.

    Args:
        num_real: texts that were not made, which come first.
        made: how many were, by kind, in their order.
    """
    stages = {EDGE_CASES: 1} | dict.fromkeys(get_args(Edit), 2)
    numbers = [0, *(stages.get(kind, 0) for kind in made)]
    return np.repeat(np.array(numbers, np.int64), [num_real, *made.values()])


def notes_on(settings: TextAugmentation, made: Mapping[str, int]) -> list[str]:
    """What a reader of the report should know of the texts that were made."""
    notes = [
        f"Of {num:,} texts asked for ({kind}) {made[kind]:,} are learned: no more new ones were "
        "found, or the teacher answered the others otherwise than the texts that they were made of."
        for kind, num in asked_for(settings).items()
        if made[kind] < num
    ]
    if settings.edge_cases and "edge_cases" in settings.edge_cases.of:
        notes.append(
            "The student learned variants of the edge cases: its score on them says less than it "
            "would without."
        )
    return notes


def keep_unfooled(
    made: Mapping[str, Sequence[Edited]], logits: np.ndarray, answers: np.ndarray
) -> tuple[dict[str, list[str]], np.ndarray]:
    """The texts to which the teacher answers as they are to be answered.

    Args:
        logits: [made texts, classes], in the order of `made`.
        answers: the teacher's to the real texts, int64 [real texts].

    Returns:
        The texts by kind, and their rows in `logits`.
    """
    edits = [each for texts in made.values() for each in texts]
    given = np.argmax(logits, axis=1) if edits else np.empty(0, np.int64)
    asked = np.array([answers[e.row] if e.row >= 0 else -1 for e in edits], np.int64)
    is_kept = (asked < 0) | (given == asked)
    kept: dict[str, list[str]] = {}
    start = 0
    for kind, texts in made.items():
        marks = is_kept[start : start + len(texts)]
        kept[kind] = [each.text for each, mark in zip(texts, marks, strict=True) if mark]
        start += len(texts)
    return kept, np.flatnonzero(is_kept)


def _pairs_of(texts: Sequence[str], partners: Sequence[str]) -> DrawPair:
    return lambda rng: (rng.choice(texts), rng.choice(partners))


def _near_pairs(texts: Sequence[str], logits: np.ndarray, share: float) -> DrawPair:
    """Texts near the boundary, with partners that have their second likeliest answer."""
    near, second = near_boundary(logits, share)
    of_class: dict[int, list[str]] = {}
    for text, answer in zip(texts, np.argmax(logits, axis=1).tolist(), strict=True):
        of_class.setdefault(answer, []).append(text)
    choices: list[tuple[str, Sequence[str]]] = [
        (texts[row], of_class.get(other, texts))
        for row, other in zip(near.tolist(), second.tolist(), strict=True)
    ]

    def draw(rng: random.Random) -> tuple[str, str]:
        text, partners = rng.choice(choices)
        return text, rng.choice(partners)

    return draw
