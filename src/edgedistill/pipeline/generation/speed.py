"""How fast the bundle and its teacher write, in turn: whole requests, first tokens, tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgedistill.core.conversation import Turn
from edgedistill.evaluate.report.content import Footprint, Latency
from edgedistill.pipeline.generation.serving import open_model, prompt_text, search_of
from edgedistill.pipeline.generation.student import Ground
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.measuring import (
    WritingClock,
    WritingSpeed,
    alternate_ms,
    distribution_free_upper,
)

#: Prompts that are timed.
NUM_TIMED = 200


@dataclass(frozen=True)
class Timed:
    """Milliseconds of whole requests, float [n], and how they were written; None: not one was."""

    samples_ms: np.ndarray
    writing: WritingSpeed | None

    def footprint(self, size_bytes: int, confidence: float) -> Footprint:
        """What the model costs, for the report."""
        p50, p95, p99 = (float(v) for v in np.percentile(self.samples_ms, [50, 95, 99]))
        upper = distribution_free_upper(self.samples_ms, 0.95, confidence)
        first = None
        if self.writing is not None:
            values = asdict(self.writing.first_token)
            values.pop("num_samples")
            first = Latency(**values)
        return Footprint(
            size_bytes=size_bytes,
            latency=Latency(p50, p95, p99, upper if np.isfinite(upper) else None),
            throughput_per_s=1000.0 / float(np.mean(self.samples_ms)),
            samples_ms=tuple(float(v) for v in self.samples_ms[:1000]),
            first_token=first,
            tokens_per_s=self.writing.tokens_per_s if self.writing else None,
        )


def timed(ground: Ground, generator: Generator, teacher: Path) -> tuple[Timed, Timed]:
    """The bundle and the teacher's file on test prompts, in turn."""
    spec = ground.context.spec
    texts = [prompt_text(row) for row in ground.data.rows.test[:NUM_TIMED]]
    encoder, limit = ground.teacher.encoder, spec.output.max_new_tokens
    schema = ground.data.rows.schema
    grammar = json_grammar(dict(schema)) if schema else None
    search = search_of(spec)
    with open_model(spec, encoder, teacher) as peer:

        def by_teacher(text: str, on_text: Callable[[str], None]) -> int:
            ids = encoder.encode_prompt((Turn("user", text),)).tolist()
            return peer.generate(
                ids, max_new_tokens=limit, grammar=grammar, on_text=on_text, with_ids=False,
                begins_text=True, **search,
            ).num_new  # fmt: skip

        clocks = (WritingClock(generator.write), WritingClock(by_teacher))
        ours, theirs = (
            Timed(taken, clock.speed(len(taken)))
            for clock, taken in zip(clocks, alternate_ms(clocks, texts), strict=True)
        )
    return ours, theirs
