"""The heads of an extraction model: tags of its tokens, labels of the whole text; how they are
trained together, and how well they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.core.extraction_task import ExtractionSpec
from edgedistill.core.protocols import Signal
from edgedistill.runtime.extraction.labels import value_columns
from edgedistill.runtime.extraction.tagging import tag_names
from edgedistill.tasks.extraction.encoding import DocumentEncoder, EncodedDocuments

if TYPE_CHECKING:
    from edgedistill.train.distill.combined import Weighted

Loss = Callable[[Any, Any], Any]
"""Of logits and of what they are compared with, tensors of equal first axis."""


def output_names(encoder: DocumentEncoder) -> tuple[str, ...]:
    """Names of the outputs of a joint head: the tags, then the values of every label."""
    values = (f"{label.name}={value}" for label in encoder.labels for value in label.values)
    return (*tag_names(encoder.fields), *values)


def teacher_form(encoder: DocumentEncoder) -> Any:
    """What makes a teacher of a pretrained encoder and the number of its outputs."""
    from edgedistill.models.teachers.encoder import EncoderLabellingTagger, EncoderTagger

    if not encoder.labels:
        return EncoderTagger
    return partial(EncoderLabellingTagger, num_tags=len(tag_names(encoder.fields)))


def student_of(network: Any, encoder: DocumentEncoder) -> Any:
    """The tagger of a student that was built with a joint head."""
    from edgedistill.models.students.bert_blocks import LabellingTagger, TransformerTagger

    if not encoder.labels:
        return TransformerTagger.of(network)
    return LabellingTagger.split(network, len(tag_names(encoder.fields)))


def token_set(
    documents: EncodedDocuments,
    encoder: DocumentEncoder,
    answers: np.ndarray | None = None,
    label_logits: np.ndarray | None = None,
    inside: Mapping[Signal, Any] | None = None,
) -> Any:
    """What a step learns from: tags and labels, and what the teacher says of every token
    (`answers`), of the labels of every text, and of its `inside`."""
    from edgedistill.train.token_rows import TokenSet

    signals = {} if answers is None else {Signal.LOGITS: answers}
    return TokenSet(
        documents.texts, documents.is_content, documents.tags, encoder.encoder.pad_id, signals,
        inside or {}, documents.labels, label_logits,
    )  # fmt: skip


def supervised(
    spec: ExtractionSpec, encoder: DocumentEncoder, method: Any, model: Any
) -> tuple[Any, Any]:
    """(step, what is trained by it): every head learns by a method for classifiers, under one
    reading of each batch."""
    from edgedistill.train.distill.combined import Combined, Weighted
    from edgedistill.train.heads import AnswersPart

    if not encoder.labels:
        return method, model
    fields = [Weighted("fields", AnswersPart(method))]
    step = Combined(with_labels(spec, encoder, fields, method), balance=spec.heads.balance)
    return step, step.learner(model)


def with_labels(
    spec: ExtractionSpec, encoder: DocumentEncoder, fields: Sequence[Weighted], method: Any
) -> list[Weighted]:
    """The parts that teach the fields, and the loss of each label by a method for classifiers, all
    with their weights."""
    from edgedistill.train.distill.combined import Weighted
    from edgedistill.train.heads import LabelPart

    factor, weights = spec.heads.fields_weight, spec.heads.label_weights
    parts = [
        replace(
            part, weight=factor * part.weight,
            final_weight=None if part.final_weight is None else factor * part.final_weight,
        )
        for part in fields
    ]  # fmt: skip
    columns = value_columns(encoder.labels)
    parts += [
        Weighted(label.name, LabelPart(method, place, columns[place]), weights.get(label.name, 1.0))
        for place, label in enumerate(encoder.labels)
    ]
    return parts


def likelihood(
    spec: ExtractionSpec, documents: EncodedDocuments, encoder: DocumentEncoder,
    smoothing: float = 0.0,
) -> Callable[[Any], float]:  # fmt: skip
    """A function that scores a tagger: minus its cross-entropy a token, on tagged texts, and that
    of every label a text, each with its weight."""
    from edgedistill.train.tune.supervised import labelled_cross_entropy

    loss = partial(labelled_cross_entropy, smoothing=smoothing)
    tags, labels = (np.asarray(a, dtype=np.int64) for a in (documents.tags, documents.labels))
    kept = np.ones(len(tags), dtype=bool)
    targets = [labels[:, place] for place in range(len(encoder.labels))]
    return _scorer(spec, documents, encoder, loss, kept, tags, targets)


def closeness(
    spec: ExtractionSpec, documents: EncodedDocuments, encoder: DocumentEncoder,
    logits: np.ndarray, label_logits: np.ndarray | None, temperature: float,
) -> Callable[[Any], float]:  # fmt: skip
    """A function that scores a model: minus the divergence from what it is to answer, of the tokens
    and of every label, each with its weight.

    The epoch that is kept is chosen by it: it uses every probability, where an F1 over a few
    hundred spans may pick an early epoch by luck.

    Args:
        logits: of every token. label_logits: of the texts.
    """
    from edgedistill.train.distill.logit_losses import softened_kl

    loss = partial(softened_kl, temperature=temperature)
    kept = documents.is_content
    targets = [] if label_logits is None else [
        label_logits[:, columns] for columns in value_columns(encoder.labels)
    ]  # fmt: skip
    return _scorer(spec, documents, encoder, loss, kept, logits[kept], targets)


def _scorer(
    spec: ExtractionSpec,
    documents: EncodedDocuments,
    encoder: DocumentEncoder,
    loss: Loss,
    kept: np.ndarray,
    token_targets: np.ndarray,
    label_targets: list[np.ndarray],
) -> Callable[[Any], float]:
    """A function that scores a model: minus the weighted sum of a loss over its heads."""
    import torch

    from edgedistill.models.inference import tagger_outputs

    def of(found: np.ndarray, wanted: np.ndarray) -> float:
        return float(loss(torch.from_numpy(np.ascontiguousarray(found)), torch.from_numpy(wanted)))

    def score(model: Any) -> float:
        tags, _, values = tagger_outputs(model, documents.texts, pad_id=encoder.encoder.pad_id)
        total = spec.heads.fields_weight * of(tags[kept], token_targets)
        places = zip(encoder.labels, value_columns(encoder.labels), label_targets, strict=True)
        for label, columns, wanted in places:
            weight = spec.heads.label_weights.get(label.name, 1.0)
            total += weight * of(values[:, columns], np.ascontiguousarray(wanted))
        return -total

    return score
