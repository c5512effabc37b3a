"""The boundary of a generator: how far a prompt, or its answer, is from what the model knows."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edgedistill.core.errors import BundleError
from edgedistill.runtime.manifest import GUARD, GUARD_ARRAYS

Kind = Literal["surprisal", "doubt"]
KINDS: tuple[Kind, ...] = ("surprisal", "doubt")
ARRAYS = {"surprisal": ("tokens", "pairs"), "doubt": ()}

#: Weight of the unigram distribution in the bigram one, in observed pairs.
PRIOR = 4.0
_FIRST, _SECOND = 104_729, 7_919


@dataclass(frozen=True, eq=False)
class TextBoundary:
    """Refuses prompts whose score exceeds `threshold`.

    `kind`: `surprisal` is the mean of -log p of the prompt's tokens under a bigram model of the
    training prompts (known before the model runs), `doubt` the mean of -log p of the answer's
    tokens under the model itself (known after). `false_abstention_rate`: share of in-bounds
    prompts that the threshold was set to refuse. `arrays`: of the bigram model.
    """

    kind: Kind
    threshold: float
    false_abstention_rate: float
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _wrong(f"unknown score {self.kind!r}", f"one of: {', '.join(KINDS)}")
        if not math.isfinite(self.threshold):
            raise _wrong(f"threshold {self.threshold} is not a number", "a finite number")
        missing = [name for name in ARRAYS[self.kind] if name not in self.arrays]
        if missing:
            raise _wrong(f"{self.kind} lacks its arrays {missing}", f"store them in {GUARD_ARRAYS}")

    def prompt_score(self, ids: Sequence[int]) -> float | None:
        """Score of a prompt's token ids; None where the answer is needed for it."""
        if self.kind != "surprisal":
            return None
        return surprisal(ids, self.arrays["tokens"], self.arrays["pairs"])

    def to_files(self) -> dict[str, bytes]:
        """`guard.json`, and `guard.npz` where there are arrays; equal boundaries, equal bytes."""
        settings = {
            "score": self.kind,
            "threshold": self.threshold,
            "false_abstention_rate": self.false_abstention_rate,
        }
        files = {GUARD: (json.dumps(settings, indent=2, allow_nan=False) + "\n").encode()}
        if self.arrays:
            stream = io.BytesIO()
            named: dict[str, Any] = {name: self.arrays[name] for name in sorted(self.arrays)}
            np.savez_compressed(stream, **named)
            files[GUARD_ARRAYS] = stream.getvalue()
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> TextBoundary:
        """What `to_files` wrote; raises BundleError where it is malformed."""
        try:
            settings = json.loads(files[GUARD])
            arrays = {}
            if GUARD_ARRAYS in files:
                with np.load(io.BytesIO(files[GUARD_ARRAYS]), allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in stored.files}
            return cls(
                settings["score"],
                float(settings["threshold"]),
                float(settings["false_abstention_rate"]),
                arrays,
            )
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise _wrong(f"{type(error).__name__} {error}", "make the bundle again") from error


def pair_buckets(ids: np.ndarray, num_buckets: int) -> np.ndarray:
    """Bucket of each token with the one before it, int64 [n]; the first has -1 before it."""
    before = np.concatenate([[-1], ids[:-1]]).astype(np.int64)
    return np.asarray(((before + 1) * _FIRST + ids.astype(np.int64) * _SECOND) % num_buckets)


def surprisal(ids: Sequence[int], tokens: np.ndarray, pairs: np.ndarray) -> float:
    """Mean of -log p of token ids under a smoothed bigram model, in nats; 0 for none.

    p(b | a) = (c(a, b) + m · p(b)) / (c(a) + m) with m = PRIOR and p(b) with one added to every
    count: a Dirichlet prior around the unigrams (MacKay & Peto 1995).

    Args:
        tokens: counts of each token in the training prompts, [vocabulary].
        pairs: counts of neighbouring tokens by `pair_buckets`, [num_buckets].
    """
    known = np.asarray(ids, dtype=np.int64)
    if not len(known):
        return 0.0
    counts = tokens.astype(np.float64)
    alone = (counts[known] + 1.0) / (counts.sum() + len(counts))
    seen = pairs[pair_buckets(known, len(pairs))].astype(np.float64)
    context = np.concatenate([[0.0], counts[known[:-1]]])
    # The first token has no context: its own bucket counts how often a text began with it.
    likely = (seen + PRIOR * alone) / (np.maximum(context, seen) + PRIOR)
    return float(-np.log(likely).mean())


def _wrong(what: str, fix: str) -> BundleError:
    return BundleError(what, where=GUARD, fix=fix)
