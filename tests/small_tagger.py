"""A stock token classifier of transformers, fine-tuned on the small extraction task."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForTokenClassification

import small_extraction
from edgedistill.core.extraction import Document, Span
from edgedistill.runtime.extraction.tagging import tag_names
from edgedistill.tasks.classification import TextEncoder
from edgedistill.tasks.extraction.encoding import DocumentEncoder

FIELDS = tuple(field["name"] for field in small_extraction.FIELDS)
#: Not the order in which the task names them.
TAGS = tuple(sorted(tag_names(FIELDS), reverse=True))


def write_tagger(folder: Path, teacher_folder: Path, *, num_steps: int = 150) -> Path:
    """A BERT of 3 layers with a head on every token, as `save_pretrained` writes it; half of it is
    still worth a pass on the file."""
    folder.mkdir(parents=True)
    shutil.copyfile(teacher_folder / "tokenizer.json", folder / "tokenizer.json")
    encoder = DocumentEncoder(TextEncoder(folder / "tokenizer.json", 48), FIELDS)
    documents = encoder.encode([
        Document(str(place), row["text"], tuple(Span(**span) for span in row["spans"]))
        for place, row in enumerate(small_extraction.rows(160, 1))
    ])  # fmt: skip
    own = np.array([TAGS.index(tag) for tag in tag_names(FIELDS)])
    targets = np.where(documents.is_content, own[documents.tags], -100)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=encoder.encoder.num_tokens, hidden_size=32, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=320, max_position_embeddings=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.1,
        id2label=dict(enumerate(TAGS)), label2id={name: i for i, name in enumerate(TAGS)},
    )  # fmt: skip
    model = BertForTokenClassification(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    tags = type(documents.texts)(targets, documents.texts.starts)
    for step in range(num_steps):
        rows = np.arange(step * 24, step * 24 + 24) % len(documents)
        ids, mask = map(torch.from_numpy, documents.texts.padded(rows, encoder.encoder.pad_id))
        labels = torch.from_numpy(tags.padded(rows, -100)[0])
        loss = model(ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    return folder
