"""A small classifier of random weights, of texts or tokens, its texts, and the network of our
blocks that it is."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import ModelOutput
from edgedistill.models.structure.given import Evidence, Given, Tagged
from edgedistill.models.structure.whole import whole_network
from edgedistill.models.students.bert_blocks import TransformerStudent
from edgedistill.models.students.vocabulary import KeptVocabulary, keep_tokens
from edgedistill.models.teachers.encoder import (
    EncoderClassifier,
    EncoderLabellingTagger,
    EncoderTagger,
)

PAD, VOCABULARY, NUM_LABELS, MAX_TOKENS = 1, 120, 4, 16
#: What is labelled: whole texts, tokens, or both.
KINDS = ("texts", "tokens", "both")
NUM_TAGS = 5
#: Two labels of whole texts, of two and three values, and weights of the losses, tags first.
COLUMNS, WEIGHTS = (slice(0, 2), slice(2, 5)), (1.0, 0.5, 2.0)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 40, "attn_implementation": "eager",
    "pad_token_id": PAD, "initializer_range": 0.2,
}  # fmt: skip


class Small(NamedTuple):
    """The classifier, the same as a network, its tokens, texts and what passes are given."""

    teacher: EncoderClassifier
    network: TransformerStudent
    kept: KeptVocabulary
    texts: Encoded
    given: Given

    def batch(self) -> tuple[Tensor, Tensor]:
        """All texts, padded."""
        rows = np.arange(len(self.texts))
        ids, mask = map(torch.from_numpy, self.texts.padded(rows, PAD))
        return ids, mask

    def said(self, network: Any) -> Tensor:
        """All that a network answers to the texts, in one row."""
        ids, mask = self.batch()
        with torch.no_grad():
            return in_a_row(network.eval()(ids, mask), mask)


def in_a_row(output: ModelOutput, mask: Tensor) -> Tensor:
    """Every number of an answer, those of padding left out."""
    logits = output.logits[mask.bool()] if output.logits.ndim == 3 else output.logits
    others = [] if output.label_logits is None else [output.label_logits.flatten()]
    return torch.cat([logits.flatten(), *others])


def small_texts(num: int = 40, most: int = 100) -> Encoded:
    """Texts of 1 to 11 tokens with ids from 4 up to, not including, `most`."""
    rng = np.random.default_rng(3)
    return Encoded.from_lists([rng.integers(4, most, rng.integers(1, 12)).tolist()
                               for _ in range(num)])  # fmt: skip


def tagged(texts: Encoded, kind: str) -> Tagged | None:
    """What a tagger of a kind answers for: the first token of each text has no tag."""
    if kind == "texts":
        return None
    counts = np.ones(len(texts.ids), dtype=bool)
    counts[texts.starts[:-1]] = False
    return Tagged(counts, COLUMNS, WEIGHTS) if kind == "both" else Tagged(counts)


def small(family: str = "bert", kind: str = "texts", *, tied: bool = False) -> Small:
    """A fresh one; `tied`: its first and third layer are one and the same."""
    torch.manual_seed(5)
    encoder: Any = (
        BertModel(BertConfig(**SIZES), add_pooling_layer=False)
        if family == "bert"
        else RobertaModel(RobertaConfig(**SIZES), add_pooling_layer=False)
    )
    for norm in (each for each in encoder.modules() if isinstance(each, torch.nn.LayerNorm)):
        # Norms of chance: weights of 1 and biases of 0 would hide what is left out of them.
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
        torch.nn.init.normal_(norm.bias, 0.0, 0.3)
    if tied:
        encoder.encoder.layer[2] = encoder.encoder.layer[0]
    forms: dict[str, Any] = {
        "texts": partial(EncoderClassifier, num_labels=NUM_LABELS),
        "tokens": partial(EncoderTagger, num_labels=NUM_TAGS),
        "both": partial(EncoderLabellingTagger, num_labels=NUM_TAGS + 5, num_tags=NUM_TAGS),
    }
    teacher = forms[kind](encoder).eval()
    torch.nn.init.normal_(teacher.head.weight, std=0.5)
    texts = small_texts()
    kept = keep_tokens(encoder.get_input_embeddings().weight, range(4, 100), (0, 1, 2, 3))
    network = whole_network(teacher, max_tokens=MAX_TOKENS).eval()
    evidence = Evidence.of(teacher, texts, PAD, tagged(texts, kind))
    return Small(teacher, network, kept, texts, Given(kept, evidence))
