"""Prompts as token ids, and manifests that do not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgedistill.core.errors import BundleError
from edgedistill.runtime.generation.settings import Frame, GenerationSettings

SETTINGS = GenerationSettings(
    frames={
        "system": Frame((), ()),
        "user": Frame((1,), ()),
        "assistant": Frame((2,), (3,)),
    },
    start=(0,),
    answer=(2,),
    end=(3,),
    context=64,
    max_new_tokens=32,
    schema={"type": "object"},
)


def encode(text: str) -> list[int]:
    return [10 + ord(c) - ord("a") for c in text]


def test_a_conversation_is_framed_turn_by_turn() -> None:
    turns = [("system", "a"), ("user", "b"), ("assistant", "c"), ("user", "d")]
    assert SETTINGS.prompt_ids(turns, encode) == [0, 10, 1, 11, 2, 12, 3, 1, 13, 2]


def test_json_reads_back() -> None:
    plain = json.loads(json.dumps(SETTINGS.as_json()))
    assert GenerationSettings.from_json(plain) == SETTINGS


@pytest.mark.parametrize(
    "changes",
    [{"frames": {}}, {"frames": {"user": {"before": [1]}}}, {"end": []}, {"context": 32},
     {"max_new_tokens": 0}, {"start": None}, {"frames": {"robot": {"before": [], "after": []}}}],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="malformed"):
        GenerationSettings.from_json(json.loads(json.dumps(SETTINGS.as_json())) | changes)
