"""Shared by all tests: a small teacher of random weights, and a finished run with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

import small_task
from small_task import FinishedRun

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# An example that has to wait for a busy core is no slow example; and the same examples every
# time, that a failure is always of the change it is seen with.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

TEXT = (
    "where is my order parcel late cancel please stop it now refund money back card return send "
    "the a i to for what how much can you help today tomorrow never again shop broken"
)
"""Every word that the small teacher's tokenizer knows whole."""


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT encoder of 2 layers and width 32 with a WordPiece tokenizer, in safetensors."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("teacher")
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,!?'")
    pieces = specials + letters + ["##" + c for c in letters] + TEXT.split()
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(specials)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> FinishedRun:
    """The small task, run from nothing to its bundle (15 to 20 s on one core)."""
    from edgedistill.pipeline.run import run_task

    task = small_task.write_task(tmp_path_factory.mktemp("task"), teacher_folder)
    return FinishedRun(task, run_task(task, runs_dir=task.parent / "runs").folder)
