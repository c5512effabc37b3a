"""The runner of extraction bundles: texts in, records or abstentions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from edgedistill.core.errors import BundleError
from edgedistill.runtime.extraction.answer import (
    Extraction,
    FieldReason,
    FieldValue,
    abstention,
)
from edgedistill.runtime.extraction.fields import ExtractionSettings, Field
from edgedistill.runtime.extraction.grid import TokenGrid, token_grid
from edgedistill.runtime.extraction.labels import LabelValue, read_labels
from edgedistill.runtime.extraction.normalisers.normaliser import NotNormalisedError
from edgedistill.runtime.extraction.reading import FoundSpan, Reading, read_tags
from edgedistill.runtime.extraction.tagging import document_logits, tag_names
from edgedistill.runtime.guard.boundary import Guard
from edgedistill.runtime.input_check import InputCheck
from edgedistill.runtime.manifest import MANIFEST, TOKENIZER, Manifest
from edgedistill.runtime.networks import load_network
from edgedistill.runtime.providers import CPU
from edgedistill.runtime.text_model import TextModel
from edgedistill.runtime.tokenizer import Tokenizer


class RawOutputs(NamedTuple):
    """What the network says of a text: its grid, `logits` [n, tags] of the tokens with characters,
    `features` [1, dim], `label_logits` [1, values] of the labels of the whole text."""

    grid: TokenGrid
    logits: np.ndarray
    features: np.ndarray
    label_logits: np.ndarray


class Extractor:
    """A bundle, ready to answer. Safe to call from several threads.

    Args:
        manifest: tags, limits of the input, fields.
        model, guard: of the same bundle.
    """

    def __init__(self, manifest: Manifest, model: TextModel, guard: Guard) -> None:
        self.manifest = manifest
        self.model = model
        self.guard = guard
        self.settings = ExtractionSettings.from_json(manifest.extraction)
        self.names = tuple(one.name for one in self.settings.fields)
        self._check = InputCheck(manifest.input, num_special=model.tokenizer.num_special)
        self._require_fit()

    @classmethod
    def from_files(
        cls,
        manifest: Manifest,
        files: Mapping[str, bytes],
        *,
        threads: int | None = None,
        provider: str = CPU,
    ) -> Extractor:
        """Build from the contents of a bundle's files; raises BundleError where they misfit."""
        model = TextModel(
            load_network(
                files[manifest.model_among(files)],
                threads=threads or manifest.threads,
                provider=provider,
            ),
            Tokenizer(files[TOKENIZER]),
            batching="single",
            pad_id=manifest.pad_id,
            max_tokens=manifest.input.max_tokens,
        )
        return cls(manifest, model, Guard.from_files(files))

    def predict(self, texts: Sequence[Any]) -> list[Extraction]:
        """One record for each text, in order.

        Whatever an input is, it gets a record or an abstention with a reason, never an exception.

        Raises:
            TypeError: `texts` is one text instead of a sequence of texts.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError("predict takes a list of texts: predict([text])")
        return [self._predict_one(text) for text in texts]

    def raw(self, text: str) -> RawOutputs:
        """What the network says of a text that fits, without input checks or guard."""
        return self._run(token_grid(self.model.tokenizer, text))

    def read(self, grid: TokenGrid, logits: np.ndarray) -> Reading:
        """The spans that logits say, before fields abstain."""
        return read_tags(
            grid, logits, whole_words=self.settings.whole_words, temperature=self.guard.temperature
        )

    def golden_row(self, text: str) -> dict[str, Any]:
        """A golden example: text, the record as `label` (None if abstained), reason (None if
        answered), and as `logits` what the guard reads of them, and those of the labels."""
        prediction = self._predict_one(text)
        profile = self._profile(text)
        return {
            "text": text,
            "label": prediction.answer,
            "reason": prediction.reason,
            "logits": [float(f"{value:.7g}") for value in profile],
        }

    def golden_difference(self, row: Mapping[str, Any]) -> float:
        """Largest absolute difference from a golden row's logits."""
        expected = np.asarray(row["logits"], dtype=np.float64)
        profile = self._profile(row["text"])
        if expected.shape != profile.shape:
            return float("inf")
        return float(np.abs(profile - expected).max())

    def network_calls(self, texts: Sequence[str]) -> tuple[Callable[[Any], object], list[Any]]:
        """The network on the token ids of the texts that it can read."""
        encoded = [self.model.tokenizer.encode(text) for text in texts]
        limit = self.manifest.input.max_tokens
        return self.model.run_all, [ids for ids in encoded if 0 < len(ids) <= limit]

    def _predict_one(self, text: Any) -> Extraction:
        refused = self._check.refusal(text)
        if refused is None:
            grid = token_grid(self.model.tokenizer, text)
            refused = self._check.token_refusal(len(grid.ids))
        if refused is not None:
            return abstention(refused.reason or "wrong_type", refused.detail)
        if not grid.is_content.any():
            return abstention("empty", "no readable characters")
        raw = self._run(grid)
        score = float(self.guard.scores(document_logits(raw.logits), raw.features)[0])
        reading = self.read(grid, raw.logits)
        labels = read_labels(self.settings.labels, raw.label_logits[0])
        # Written so that a score or a confidence that is not a number abstains too.
        if not (score <= self.guard.threshold and all(one.confidence > 0 for one in labels)):
            detail = f"score {score:.4g}, at most {self.guard.threshold:.4g} is in bounds"
            return abstention("out_of_bounds", detail, score, reading.confidence)
        return self.answer_of(text, reading, score, labels)

    def answer_of(
        self, text: str, reading: Reading, score: float, labels: tuple[LabelValue, ...] = ()
    ) -> Extraction:
        """What the spans and labels of a text come to: values, fields that abstain, the record."""
        values = [self._value(text, span) for span in reading.spans]
        record: dict[str, Any] = {one.name: one.value for one in labels}
        sure = min(reading.confidence, *(one.confidence for one in labels), 1.0)
        named = {value.name for value in values}
        for field in self.settings.fields:
            if field.name not in named and not field.required:
                continue
            _keep_surest(field, values)
            found = [v.value for v in values if v.name == field.name and not v.abstained]
            if found:
                record[field.name] = found if field.many else found[0]
            elif field.required:
                detail = _why_missing(field.name, values)
                return abstention("missing_field", detail, score, sure, tuple(values), labels)
        return Extraction(record, tuple(values), sure, False, None, "", score, labels)

    def _value(self, text: str, span: FoundSpan) -> FieldValue:
        field, words = self.settings.fields[span.field], text[span.start : span.end]
        value: Any = None
        reason: FieldReason | None = None
        detail = ""
        least = self.settings.least_confidence
        if not span.confidence >= least:
            reason = "unsure"
            detail = f"confidence {span.confidence:.3f}, at least {least:.3f} is asked for"
        else:
            try:
                value = field.value(words)
            except NotNormalisedError as error:
                reason, detail = "not_normalised", str(error)
        return FieldValue(
            field.name, words, span.start, span.end, value, span.confidence,
            reason is not None, reason, detail,
        )  # fmt: skip

    def _run(self, grid: TokenGrid) -> RawOutputs:
        logits, features, labels = self.model.run_all(grid.ids.tolist())
        return RawOutputs(grid, logits[0][grid.is_content], features, labels)

    def _profile(self, text: str) -> np.ndarray:
        """What golden examples record of the network's outputs, float32 [tags + values]."""
        raw = self.raw(text)
        return np.concatenate([document_logits(raw.logits)[0], raw.label_logits[0]])

    def _require_fit(self) -> None:
        """Run once: finds a model that fails or misfits, and takes the cost of the first call."""
        if tag_names(self.names) != self.manifest.labels:
            raise BundleError(
                "the labels are not the tags of the fields", where=MANIFEST,
                fix="make the bundle again",
            )  # fmt: skip
        try:
            logits, features, labels = self.model.run_all([self.manifest.pad_id] * 2)
            num_values = sum(len(one.values) for one in self.settings.labels)
            if (logits.shape, labels.shape[1]) == ((1, 2, len(self.manifest.labels)), num_values):
                self.guard.scores(document_logits(logits[0]), features)
                return
        except Exception as error:  # ONNX Runtime's own exceptions share no base but this one
            raise BundleError(
                f"the model and its guard do not run: {error}",
                where=self.manifest.name,
                fix="make the bundle again",
            ) from error
        raise BundleError(
            f"the model gives logits {logits.shape} for {len(self.manifest.labels)} tags of 2 "
            f"tokens, and {labels.shape[1]} for the {num_values} values of labels",
            where=self.manifest.model_file,
            fix="make the bundle again",
        )


def _keep_surest(field: Field, values: list[FieldValue]) -> None:
    """Of a field that takes one value, the spans beside the surest one abstain."""
    if field.many:
        return
    places = [i for i, v in enumerate(values) if v.name == field.name and not v.abstained]
    surest = max(places, key=lambda i: values[i].confidence, default=-1)
    for place in places:
        if place != surest:
            detail = f"the field takes one value, {values[surest].text!r} is surer"
            values[place] = replace(
                values[place], value=None, abstained=True, reason="another_is_surer", detail=detail
            )


def _why_missing(name: str, values: Sequence[FieldValue]) -> str:
    details = [value.detail for value in values if value.name == name]
    return f"{name}: {details[0]}" if details else f"{name} was not found"
