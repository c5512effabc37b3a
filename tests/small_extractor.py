"""A whole extraction bundle in a few kilobytes: each word has logits of its own, whatever stands
around it; words that it was never told leave them low, so that the energy separates them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgedistill.runtime.bundle import Bundle, write_bundle
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.extraction.fields import ExtractionSettings, Field
from edgedistill.runtime.extraction.tagging import tag_names
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

FIELDS = (
    Field("total", "money", required=True, settings={"decimal_mark": ".", "currency": None}),
    Field("due", "date", settings={"date_order": "day_first"}),
    Field("status", "enumeration", settings={"values": {"open": ["unpaid"], "paid": []}}),
    Field("item", many=True),
)
TAGS = tag_names([field.name for field in FIELDS])
#: Logits above 0 by word and tag; every word that is known stands out by 8.
WORDS: dict[str, dict[str, float]] = {
    **{word: {"O": 8.0} for word in ("the", "is", "and", "due", "for", "of", ",", "see")},
    **{word: {"B-total": 8.0} for word in ("12", "99", "many")},
    **{word: {"I-total": 8.0, "B-total": 5.0} for word in (".", "50", "eur", "usd")},
    "5": {"B-due": 8.0},
    "march": {"I-due": 8.0, "B-due": 3.0},
    "2024": {"I-due": 8.0},
    **{word: {"B-status": 8.0} for word in ("open", "unpaid", "settled")},
    "paid": {"B-status": 8.0, "O": 8.5},
    **{word: {"B-item": 8.0} for word in ("big", "widget")},
    "bolt": {"I-item": 8.0, "B-item": 7.0},
}
TEXTS = (
    "the big bolt and the widget, 12.50 EUR, due 5 March 2024",
    "99 USD for the widget", "unpaid: 12 EUR", "see the bolt of 12.50 EUR",
)  # fmt: skip
OUT_OF_BOUNDS = "tell me how warm it gets"
LEAST_CONFIDENCE = 0.5


def tokenizer_json() -> str:
    """A word a token, lower-cased, punctuation apart, between [CLS] and [SEP]."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, ":"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return tokenizer.to_str()


def model_bytes(num_tags: int = len(TAGS)) -> bytes:
    """The ONNX tagger: a row of logits a word; features are the mean over tokens."""
    vocabulary = json.loads(tokenizer_json())["model"]["vocab"]
    table = np.zeros((len(vocabulary), num_tags), np.float32)
    for word, logits in WORDS.items():
        for tag, value in logits.items():
            table[vocabulary[word], TAGS.index(tag) % num_tags] = value
    table[vocabulary[":"], 0] = 8.0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        helper.make_node("ReduceMean", ["logits"], ["features"], axes=[1], keepdims=0),
        helper.make_node("Identity", ["attention_mask"], ["unused"]),
    ]
    shapes = {"input_ids": ["b", "s"], "attention_mask": ["b", "s"]}
    graph = helper.make_graph(
        nodes, "tagger",
        [helper.make_tensor_value_info(n, TensorProto.INT64, s) for n, s in shapes.items()],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s", num_tags]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", num_tags]),
            helper.make_tensor_value_info("unused", TensorProto.INT64, ["b", "s"]),
        ],
        [numpy_helper.from_array(table, "table")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def make_manifest(**changes: Any) -> Manifest:
    """The manifest, with some entries replaced."""
    settings = ExtractionSettings(FIELDS, True, LEAST_CONFIDENCE)
    values: dict[str, Any] = {
        "kind": "extraction",
        "name": "invoices",
        "task": {},
        "labels": TAGS,
        "input": InputLimits(3, 200, 24, ("en",)),
        "batching": "single",
        "threads": 1,
        "pad_id": 0,
        "golden_tolerance": 0.25,
        "extraction": settings.as_json(),
    }
    return Manifest(**(values | changes))


def make_files(**changes: bytes) -> dict[str, bytes]:
    """Contents of the bundle's files but the golden examples."""
    guard = Guard("energy", -4.0, 2.0, 0.05)
    files = {
        MODEL: model_bytes(),
        TOKENIZER: pack_tokenizer(tokenizer_json()),
        MODEL_CARD: b"# invoices\n",
        **guard.to_files(),
    }
    return files | changes


def make_extractor() -> Extractor:
    """The bundle, ready to answer."""
    return Extractor.from_files(make_manifest(), make_files())


def make_bundle(folder: Path) -> Bundle:
    """The bundle on the disk."""
    files = make_files()
    files[GOLDEN] = golden_examples(make_extractor(), TEXTS)
    return write_bundle(folder, make_manifest(), files)


def with_labels(files: dict[str, bytes], num_values: int) -> dict[str, bytes]:
    """The files with a model that labels whole texts too: the first of its features, shifted."""
    model = onnx.load_from_string(files[MODEL])
    shifts = np.linspace(-1.0, 1.0, num_values, dtype=np.float32)
    model.graph.initializer.extend([
        numpy_helper.from_array(shifts, "shifts"),
        numpy_helper.from_array(np.arange(num_values), "first"),
    ])  # fmt: skip
    model.graph.node.extend([
        helper.make_node("Gather", ["features", "first"], ["chosen"], axis=1),
        helper.make_node("Add", ["chosen", "shifts"], ["label_logits"]),
    ])  # fmt: skip
    model.graph.output.append(
        helper.make_tensor_value_info("label_logits", TensorProto.FLOAT, ["b", num_values])
    )
    onnx.checker.check_model(model)
    return files | {MODEL: model.SerializeToString()}
