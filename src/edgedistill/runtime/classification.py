"""The runner of classification bundles: inputs in, labels or abstentions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgedistill.core.errors import BundleError
from edgedistill.runtime.guard.boundary import Guard
from edgedistill.runtime.input_check import InputCheck
from edgedistill.runtime.manifest import TOKENIZER, Manifest
from edgedistill.runtime.networks import load_network
from edgedistill.runtime.prediction import Prediction, abstention
from edgedistill.runtime.providers import CPU
from edgedistill.runtime.text_model import TextModel
from edgedistill.runtime.tokenizer import Tokenizer


class Classifier:
    """A bundle, ready to answer. Safe to call from several threads.

    Args:
        manifest: labels, limits of the input, batching.
        model, guard: of the same bundle.
    """

    def __init__(self, manifest: Manifest, model: TextModel, guard: Guard) -> None:
        self.manifest = manifest
        self.labels = manifest.labels
        self.guard = guard
        self.model = model
        self._check = InputCheck(manifest.input, num_special=model.tokenizer.num_special)
        self._encode = model.tokenizer.encode
        self._judge = guard.judge
        self._threshold = guard.threshold
        self._require_fit()

    @classmethod
    def from_files(
        cls,
        manifest: Manifest,
        files: Mapping[str, bytes],
        *,
        threads: int | None = None,
        provider: str = CPU,
    ) -> Classifier:
        """Build from the contents of a bundle's files; raises BundleError where they misfit."""
        model = TextModel(
            load_network(
                files[manifest.model_among(files)],
                threads=threads or manifest.threads,
                provider=provider,
            ),
            Tokenizer(files[TOKENIZER]),
            batching=manifest.batching,
            pad_id=manifest.pad_id,
            max_tokens=manifest.input.max_tokens,
        )
        return cls(manifest, model, Guard.from_files(files))

    def predict(self, texts: Sequence[Any]) -> list[Prediction]:
        """One answer for each input, in order.

        Whatever an input is (None, bytes, an endless or a broken text), it gets an abstention
        with a reason, never an exception.

        Raises:
            TypeError: `texts` is one text instead of a sequence of texts.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError("predict takes a list of texts: predict([text])")
        if self.model.is_padded and len(texts) > 1:
            return self._predict_padded(texts)
        return [self._predict_one(text) for text in texts]

    def raw(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits [n, classes] and features [n, dim], float32, without input checks or guard."""
        return self.model.raw(texts)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits float32 [n, classes], without input checks or guard."""
        return self.model.raw(texts)[0]

    def golden_row(self, text: str) -> dict[str, Any]:
        """A golden example: text, label (None if abstained), reason (None if answered), logits."""
        prediction = self.predict([text])[0]
        return {
            "text": text,
            "label": prediction.label,
            "reason": prediction.reason,
            "logits": [float(f"{value:.7g}") for value in self.logits([text])[0]],
        }

    def golden_difference(self, row: Mapping[str, Any]) -> float:
        """Largest absolute difference of the logits from a golden row's."""
        expected = np.asarray(row["logits"], dtype=np.float64)
        logits = self.logits([row["text"]])[0]
        if expected.shape != logits.shape:
            return float("inf")
        return float(np.abs(logits - expected).max())

    def network_calls(self, texts: Sequence[str]) -> tuple[Callable[[Any], object], list[Any]]:
        """The network on the token ids of the texts that it can read."""
        encoded = [self._encode(text) for text in texts]
        limit = self.manifest.input.max_tokens
        return self.model.run_one, [ids for ids in encoded if 0 < len(ids) <= limit]

    def _predict_one(self, text: Any) -> Prediction:
        refused = self._check.refusal(text)
        if refused is not None:
            return refused
        ids = self._encode(text)
        refused = self._check.token_refusal(len(ids))
        if refused is not None:
            return refused
        return self._answer(*self._judge(*self.model.run_one(ids)))

    def _predict_padded(self, texts: Sequence[Any]) -> list[Prediction]:
        answers: dict[int, Prediction] = {}
        rows: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            refused = self._check.refusal(text)
            if refused is None:
                rows[index] = self._encode(text)
                refused = self._check.token_refusal(len(rows[index]))
            if refused is not None:
                answers[index] = refused
                rows.pop(index, None)
        if rows:
            decided = self._decide_many(*self.model.run_many(list(rows.values())))
            answers.update(zip(rows, decided, strict=True))
        return [answers[index] for index in range(len(texts))]

    def _decide_many(self, logits: np.ndarray, features: np.ndarray) -> list[Prediction]:
        scores = self.guard.scores(logits, features).tolist()
        confidences = self.guard.confidences(logits).tolist()
        best = logits.argmax(axis=1).tolist()
        return [self._answer(*judged) for judged in zip(best, scores, confidences, strict=True)]

    def _answer(self, best: int, score: float, confidence: float) -> Prediction:
        # Written so that a score or a confidence that is not a number abstains too.
        if score <= self._threshold and confidence > 0.0:
            return Prediction(self.labels[best], confidence, False, None, "", score)
        detail = f"score {score:.4g}, at most {self._threshold:.4g} is in bounds"
        return abstention("out_of_bounds", detail, score)

    def _require_fit(self) -> None:
        """Run once: finds a model that fails or misfits, and takes the cost of the first call."""
        try:
            logits, features = self.model.run_one([self.manifest.pad_id])
            self._judge(logits, features)
        except Exception as error:  # ONNX Runtime's own exceptions share no base but this one
            raise BundleError(
                f"the model and its guard do not run: {error}",
                where=self.manifest.name,
                fix="make the bundle again",
            ) from error
        if logits.shape != (1, len(self.labels)):
            raise BundleError(
                f"the model gives {logits.shape[-1]} logits for {len(self.labels)} labels",
                where=self.manifest.model_file,
                fix="make the bundle again",
            )
