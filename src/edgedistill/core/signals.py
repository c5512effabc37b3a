"""Names of what training methods learn from; apart, since task files name them without numpy."""

from __future__ import annotations

from enum import StrEnum


class Signal(StrEnum):
    """What a training method can ask of the data or of the teacher."""

    LABELS = "labels"
    LOGITS = "logits"
    TOP_IDS = "the likeliest tokens"
    TOP_LOGPROBS = "their log-probabilities"
    TOP_TAIL = "the mass of all other tokens"
    STATES = "hidden states"
    ATTENTIONS = "attention maps"
    QUERIES = "queries of its attention"
    KEYS = "keys of its attention"
    VALUES = "values of its attention"
    TEACHERS = "answers of several teachers"
    ALIGNED = "its tokens that begin where the student's do"
