"""Which files may be run in batches: those whose answers no batch-mate can move."""

from __future__ import annotations

from typing import Any

import pytest

from edgedistill.compress.passes import PASSES
from edgedistill.pipeline.stages.artefact import Artefact
from edgedistill.pipeline.stages.variants import Variant

NOTHING: Any = None


def artefact(*passes: str) -> Artefact:
    chosen = Variant(passes, 1, 1.0, 1.0, 1.0, 1.0, kept=True)
    return Artefact(NOTHING, NOTHING, chosen, (chosen,))


@pytest.mark.parametrize("name", sorted(PASSES))
def test_what_rounds_as_it_runs_takes_one_text_a_call(name: str) -> None:
    rounds = name == "dynamic_int8" or name.startswith(("group_", "awq_", "gptq_", "mixed_"))
    assert artefact("int8_tables", name).batching == ("single" if rounds else "padded")


def test_full_precision_is_batched_and_litert_is_not() -> None:
    assert artefact().batching == "padded"
    assert artefact("litert_int8").batching == "single"
