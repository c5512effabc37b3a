"""A small classifier of random weights, its texts, and the network of our blocks that it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from edgedistill.core.artefacts import Encoded
from edgedistill.models.structure.given import Evidence, Given
from edgedistill.models.structure.whole import whole_network
from edgedistill.models.students.bert_blocks import TransformerStudent
from edgedistill.models.students.vocabulary import KeptVocabulary, keep_tokens
from edgedistill.models.teachers.encoder import EncoderClassifier

PAD, VOCABULARY, NUM_LABELS, MAX_TOKENS = 1, 120, 4, 16
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


def small_texts(num: int = 40, most: int = 100) -> Encoded:
    """Texts of 1 to 11 tokens with ids from 4 up to, not including, `most`."""
    rng = np.random.default_rng(3)
    return Encoded.from_lists([rng.integers(4, most, rng.integers(1, 12)).tolist()
                               for _ in range(num)])  # fmt: skip


def small(family: str = "bert", *, tied: bool = False) -> Small:
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
    teacher = EncoderClassifier(encoder, NUM_LABELS).eval()
    torch.nn.init.normal_(teacher.head.weight, std=0.5)
    texts = small_texts()
    kept = keep_tokens(encoder.get_input_embeddings().weight, range(4, 100), (0, 1, 2, 3))
    network = whole_network(teacher, max_tokens=MAX_TOKENS).eval()
    return Small(teacher, network, kept, texts, Given(kept, Evidence.of(teacher, texts, PAD)))
