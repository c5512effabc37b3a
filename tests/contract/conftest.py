"""A teacher that every preset of every student family can be made from, and texts to learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from edgedistill.core.artefacts import Encoded
from edgedistill.core.events import silent
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.families import FAMILIES
from edgedistill.models.inference import model_outputs
from edgedistill.models.students.family import Material
from edgedistill.models.students.vocabulary import keep_tokens, used_tokens
from edgedistill.models.teachers.encoder import EncoderClassifier
from edgedistill.train.batches import TrainingSet
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.tune.supervised import Supervised

VOCABULARY, NUM_TOPICAL, NUM_LABELS, PAD, SPECIAL = 4000, 700, 5, 0, (0, 1, 2, 3)

Build = Callable[[str, str], nn.Module]


def texts_and_targets(num: int, seed: int) -> tuple[Encoded, np.ndarray]:
    """Token ids between marks; two of three tokens come from a range of the label's own."""
    rng = np.random.default_rng(seed)
    targets = np.arange(num, dtype=np.int64) % NUM_LABELS
    rows = []
    for target in targets:
        length = int(rng.integers(2, 12))
        own = 4 + 100 * int(target) + rng.integers(0, 100, length)
        shared = 504 + rng.integers(0, NUM_TOPICAL - 504, length)
        rows.append([2, *np.where(rng.random(length) < 0.67, own, shared).tolist(), 3])
    return Encoded.from_lists(rows), targets


@pytest.fixture(scope="session")
def material() -> Material:
    """A random BERT of 6 layers and width 256, and 300 labelled texts."""
    torch.manual_seed(0)
    encoder = BertModel(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
            intermediate_size=1024, max_position_embeddings=64, attn_implementation="eager",
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    texts, targets = texts_and_targets(300, seed=1)
    table: Any = encoder.get_input_embeddings()
    # Tables weigh about as much as in life: three quarters of the tokens are kept.
    kept = {*used_tokens([texts.ids], vocabulary_size=VOCABULARY).tolist(), *range(3000)}
    return Material(
        teacher=EncoderClassifier(encoder, NUM_LABELS).eval(),
        kept=keep_tokens(table.weight, kept, SPECIAL),
        train=texts,
        targets=targets,
        num_labels=NUM_LABELS,
        max_tokens=64,
        pad_id=PAD,
        seed=0,
    )


@pytest.fixture(scope="session")
def build(material: Material) -> Build:
    """Builds the preset of a family, untrained, in evaluation mode."""

    def make(family: str, preset: str) -> nn.Module:
        entry = FAMILIES.load(family)
        torch.manual_seed(0)
        model: nn.Module = entry.build(material, entry.config(**entry.presets[preset]))
        return model.eval()

    return make


@pytest.fixture(scope="session")
def held_out() -> tuple[Encoded, np.ndarray]:
    """100 texts that no model was trained on, and their labels."""
    return texts_and_targets(100, seed=2)


@pytest.fixture(scope="session")
def trained_file(
    material: Material, build: Build, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The exported file of a family's first preset after a few epochs; made when first asked."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            entry = FAMILIES.load(family)
            model = build(family, next(iter(entry.presets)))
            if entry.recipe is not None:
                train(
                    model, Supervised(), TrainingSet(material.train, material.targets, PAD),
                    score=lambda m: -_loss(m, material), stage="test", listener=silent,
                    config=LoopConfig(
                        entry.recipe.control_epochs, entry.recipe.learning_rate, batch_size=16
                    ),
                    checkpoints=folder,
                )  # fmt: skip
            made[family] = OnnxExporter().write(model, to=folder / "model.onnx")
        return made[family]

    return make


def _loss(model: nn.Module, material: Material) -> float:
    logits, _ = model_outputs(model, material.train, pad_id=PAD)
    targets = torch.from_numpy(material.targets)
    return float(nn.functional.cross_entropy(torch.from_numpy(logits), targets))
