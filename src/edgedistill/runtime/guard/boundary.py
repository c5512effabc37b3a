"""The calibrated guard of a bundle: score, threshold, temperature, fitted arrays."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgedistill.core.errors import BundleError
from edgedistill.runtime.guard.catalogue import SCORES
from edgedistill.runtime.guard.logsumexp import log_sum_below_peak
from edgedistill.runtime.guard.packing import packed, unpacked

_sum = np.add.reduce


@dataclass(frozen=True, eq=False)
class Guard:
    """Refuses inputs whose score exceeds `threshold`, and calibrates confidence.

    `kind`: name of the score. `temperature`: divides the logits before the softmax, > 0.
    `false_abstention_rate`: share of in-bounds inputs that the threshold was set to refuse.
    `arrays`: what the score was fitted to.
    """

    kind: str
    threshold: float
    temperature: float
    false_abstention_rate: float
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    _score: Callable[[np.ndarray, np.ndarray, Mapping[str, np.ndarray]], np.ndarray] = field(
        init=False, repr=False
    )
    _from_softmax: Callable[[float, float], float] | None = field(init=False, repr=False)
    _scales: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in SCORES:
            raise _wrong(f"unknown score {self.kind!r}", f"one of: {', '.join(SCORES)}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise _wrong(f"temperature {self.temperature} is not positive", "a positive number")
        if not math.isfinite(self.threshold):
            raise _wrong(f"threshold {self.threshold} is not a number", "a finite number")
        score = SCORES.load(self.kind)
        missing = [name for name in score.arrays if name not in self.arrays]
        if missing:
            raise _wrong(f"{self.kind} lacks its arrays {missing}", "store them in guard.npz")
        object.__setattr__(self, "_score", score.score)
        object.__setattr__(self, "_from_softmax", getattr(score, "from_softmax", None))
        object.__setattr__(self, "_scales", np.array([[1.0], [1.0 / self.temperature]]))

    def scores(self, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Out-of-bounds scores float64 [n]; higher is further out."""
        return self._score(logits, features, self.arrays)

    def confidences(self, logits: np.ndarray) -> np.ndarray:
        """max softmax(logits / temperature), float64 [n] in (0, 1] (Guo et al. 2017)."""
        peak = np.maximum.reduce(logits, axis=1)
        return np.asarray(np.exp(-log_sum_below_peak(logits, peak, self.temperature)))

    def judge(self, logits: np.ndarray, features: np.ndarray) -> tuple[int, float, float]:
        """Best class, score and confidence of one text: logits [1, classes], features [1, dim].

        The same as `scores` and `confidences` up to rounding in float64, in half the time: both
        sums of exponentials are taken at once.
        """
        row = logits[0]
        best = int(row.argmax())
        peak = row.item(best)
        below = np.subtract(row, peak, dtype=np.float64)
        plain, tempered = _sum(np.exp(self._scales * below), axis=1).tolist()
        if self._from_softmax is not None:
            score = self._from_softmax(peak, math.log(plain))
        else:
            score = float(self._score(logits, features, self.arrays)[0])
        return best, score, 1.0 / tempered

    def to_files(self) -> dict[str, bytes]:
        """`guard.json`, and `guard.npz` where there are arrays; equal guards give equal bytes."""
        settings = {
            "score": self.kind,
            "threshold": self.threshold,
            "temperature": self.temperature,
            "false_abstention_rate": self.false_abstention_rate,
        }
        files = {"guard.json": (json.dumps(settings, indent=2, allow_nan=False) + "\n").encode()}
        if self.arrays:
            stream = io.BytesIO()
            stored: dict[str, Any] = packed(self.arrays)
            np.savez(stream, **dict(sorted(stored.items())))
            files["guard.npz"] = stream.getvalue()
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Guard:
        """The guard that `to_files` wrote; raises BundleError where it is malformed."""
        try:
            settings = json.loads(files["guard.json"])
            kind = settings["score"]
            threshold, temperature = float(settings["threshold"]), float(settings["temperature"])
            rate = float(settings["false_abstention_rate"])
        except (ValueError, KeyError, TypeError) as error:
            raise _wrong(f"malformed: {error!r}", "make the bundle again") from error
        return cls(kind, threshold, temperature, rate, _read_arrays(files.get("guard.npz")))


def _read_arrays(packed: bytes | None) -> dict[str, np.ndarray]:
    if packed is None:
        return {}
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            return unpacked({name: archive[name] for name in archive.files})
    except Exception as error:  # a foreign file fails in many ways inside numpy and zipfile
        raise BundleError(
            f"the arrays cannot be read: {error}", where="guard.npz", fix="make the bundle again"
        ) from error


def _wrong(what: str, fix: str) -> BundleError:
    return BundleError(what, where="guard.json", fix=fix)
