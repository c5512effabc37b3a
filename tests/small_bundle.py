"""A whole bundle in a few kilobytes: word embeddings, averaged, and a linear head.

Three labels with a few telling words each; words that tell nothing leave the logits low, so
that the energy separates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgedistill.runtime.bundle import Bundle, write_bundle
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.guard.boundary import Guard
from edgedistill.runtime.manifest import (
    GOLDEN,
    MODEL,
    MODEL_CARD,
    TOKENIZER,
    InputLimits,
    Manifest,
)
from edgedistill.runtime.tokenizer import pack_tokenizer
from edgedistill.runtime.verification import golden_examples

LABELS = ("cancel", "refund", "track")
TELLING_WORDS = {
    "cancel": ("cancel", "stop", "never"),
    "refund": ("refund", "money", "back"),
    "track": ("where", "parcel", "late"),
}
PLAIN_WORDS = ("please", "my", "order", "is", "the", "i", "want", "now", "it", "a", "to", "weather")
TEXTS = (
    "where is my parcel", "please cancel my order", "i want my money back", "stop it now",
    "the parcel is late", "refund my order please",
)  # fmt: skip
OUT_OF_BOUNDS = "the weather now"
LIMITS = InputLimits(min_characters=3, max_characters=200, max_tokens=16, languages=("en",))


def model_bytes(num_labels: int = len(LABELS)) -> bytes:
    """The ONNX classifier; vocabulary of `tokenizer_json`, features of 4 dimensions."""
    words = _vocabulary()
    table = np.random.default_rng(0).normal(scale=0.01, size=(len(words), 4)).astype(np.float32)
    for index, label in enumerate(LABELS):
        for word in TELLING_WORDS[label]:
            table[words[word], index] = 1.0
    head = np.zeros((4, num_labels), dtype=np.float32)
    np.fill_diagonal(head, 30.0)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "sequence_axis"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "sequence_axis"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Div", ["total", "divisor"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["logits"]),
    ]
    constants = {
        "table": table,
        "head": head,
        "last_axis": np.array([2]),
        "sequence_axis": np.array([1]),
        "one": np.array([1.0], dtype=np.float32),
    }

    def value(name: str, kind: int, width: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["batch", width])

    graph = helper.make_graph(
        nodes,
        "classifier",
        [value(name, TensorProto.INT64, "sequence") for name in ("input_ids", "attention_mask")],
        [value("logits", TensorProto.FLOAT, num_labels), value("features", TensorProto.FLOAT, 4)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def tokenizer_json() -> str:
    """A word-level tokenizer that puts a start mark before every text."""
    tokenizer = Tokenizer(models.WordLevel(_vocabulary(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    # As training leaves it: the runtime must neither cut nor pad.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    text: str = tokenizer.to_str()
    return text


def make_manifest(**changes: Any) -> Manifest:
    """The manifest of the small bundle, with changes."""
    manifest = Manifest(
        kind="classification",
        name="support",
        task={"name": "support"},
        labels=LABELS,
        input=LIMITS,
        batching="single",
        threads=1,
        pad_id=0,
        golden_tolerance=1e-4,
    )
    return replace(manifest, **changes)


def make_guard(**changes: Any) -> Guard:
    """An energy guard whose threshold lies between the texts and `OUT_OF_BOUNDS`."""
    settings: dict[str, Any] = {
        "kind": "energy", "threshold": -4.0, "temperature": 2.0, "false_abstention_rate": 0.05,
    }  # fmt: skip
    return Guard(**{**settings, **changes})


def make_files(guard: Guard | None = None) -> dict[str, bytes]:
    """Every file but the golden examples."""
    return {
        MODEL: model_bytes(),
        TOKENIZER: pack_tokenizer(tokenizer_json()),
        MODEL_CARD: b"# Support\n",
        **(guard or make_guard()).to_files(),
    }


def make_classifier(*, manifest: Manifest | None = None, guard: Guard | None = None) -> Classifier:
    """A classifier that was never on the disk."""
    return Classifier.from_files(manifest or make_manifest(), make_files(guard))


def make_bundle(
    folder: Path,
    *,
    manifest: Manifest | None = None,
    guard: Guard | None = None,
    replaced: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write the bundle; `replaced`: contents instead of the regular ones."""
    manifest, files = manifest or make_manifest(), make_files(guard)
    classifier = Classifier.from_files(manifest, files)
    files[GOLDEN] = golden_examples(classifier, [*TEXTS, OUT_OF_BOUNDS, "no"])
    return write_bundle(folder, manifest, {**files, **(replaced or {})})


def _vocabulary() -> dict[str, int]:
    telling = [word for label in LABELS for word in TELLING_WORDS[label]]
    return {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *telling, *PLAIN_WORDS])}
