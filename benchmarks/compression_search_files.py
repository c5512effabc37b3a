"""Files that ways to compress found: read alike, scored alike, timed in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.runtime.measuring import alternate_ms
from edgedistill.runtime.session import Session
from edgedistill.runtime.text_model import TextModel
from edgedistill.runtime.tokenizer import Tokenizer

NUM_TIMED, NUM_ROUNDS = 100, 10


@dataclass(frozen=True)
class Reading:
    """What every file is read with: the tokenizer as packed in a bundle, and its limits."""

    tokenizer: Path
    pad_id: int
    max_tokens: int

    @property
    def size_bytes(self) -> int:
        """Of the tokenizer."""
        return self.tokenizer.stat().st_size

    def model(self, file: Path) -> TextModel:
        """The network in a file, one thread, one text at a time."""
        return TextModel(
            Session(file.read_bytes()), Tokenizer(self.tokenizer.read_bytes()), batching="single",
            pad_id=self.pad_id, max_tokens=self.max_tokens,
        )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A file that a way found. Bytes are those of model and tokenizer; accuracy and p50 (one
    thread) what the way itself measured on validation."""

    name: str
    file: Path
    size_bytes: int
    accuracy: float
    p50_ms: float


def timed(files: Sequence[Path], reading: Reading, texts: Sequence[str]) -> np.ndarray:
    """p50 in milliseconds of each file in each round, float64 [files, rounds]; the files take
    turns, A B A B, one text at a time."""
    models = [reading.model(file) for file in files]
    calls = [lambda text, model=model: model.raw([text]) for model in models]
    taken = alternate_ms(calls, texts[:NUM_TIMED], rounds=NUM_ROUNDS, max_s=math.inf)
    return np.stack([np.median(each.reshape(NUM_ROUNDS, -1), axis=1) for each in taken])


def answers(file: Path, reading: Reading, texts: Sequence[str]) -> np.ndarray:
    """What a file says of each text, int64 [texts]."""
    return reading.model(file).raw(texts)[0].argmax(1)
