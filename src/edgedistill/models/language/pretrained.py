"""A pretrained Llama by what its folder says, read and checked before any weight is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.errors import EdgeDistillError, ModelError
from edgedistill.core.files import read_json, sha256_of
from edgedistill.models.teachers.sources import TOKENIZER, weight_files

#: What decides how texts become ids.
TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "chat_template.jinja")
_SHOWN = 3


@dataclass(frozen=True)
class PretrainedLlama:
    """A Llama's folder and its config.json; the numbers by their names there."""

    folder: Path
    config: Mapping[str, Any]

    @property
    def num_hidden_layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    @property
    def hidden_size(self) -> int:
        return int(self.config["hidden_size"])

    @property
    def num_attention_heads(self) -> int:
        return int(self.config["num_attention_heads"])

    @property
    def num_key_value_heads(self) -> int:
        return int(self.config.get("num_key_value_heads") or self.num_attention_heads)

    @property
    def intermediate_size(self) -> int:
        return int(self.config["intermediate_size"])

    @property
    def num_rows(self) -> int:
        """Rows of the token table."""
        return int(self.config["vocab_size"])

    @property
    def context(self) -> int:
        """Tokens that it was made for."""
        return int(self.config["max_position_embeddings"])

    @property
    def num_parameters(self) -> int:
        """Weights, each tensor once; norms, which are few, left out."""
        width = int(self.config.get("head_dim") or self.hidden_size // self.num_attention_heads)
        heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads
        layer = self.hidden_size * (width * heads + 3 * self.intermediate_size)
        tables = 1 if self.config.get("tie_word_embeddings") else 2
        return self.num_hidden_layers * layer + tables * self.num_rows * self.hidden_size

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file that the model is made of, by name."""
        files = [self.folder / "config.json", *weight_files(self.folder)]
        files += [self.folder / name for name in TOKENIZER_FILES]
        return {file.name: sha256_of(file) for file in files if file.is_file()}

    def vocabulary(self) -> dict[str, int]:
        """Ids of all tokens, added ones too."""
        file = self.folder / TOKENIZER
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            known = found["model"]["vocab"]
            pieces = known if isinstance(known, dict) else {p[0]: i for i, p in enumerate(known)}
            return pieces | {token["content"]: token["id"] for token in found["added_tokens"]}
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ModelError(
                f"the tokenizer cannot be read ({type(error).__name__}: {error})",
                where=str(file),
                fix="save the fast tokenizer again (tokenizer.save_pretrained)",
            ) from error


def read_pretrained(folder: Path) -> PretrainedLlama:
    """What a checked folder holds.

    Raises:
        ModelError: another architecture, a config without its numbers, or a tokenizer with more
            ids than the model has rows.
    """
    where = str(folder / "config.json")
    try:
        config = read_json(folder / "config.json")
        kind = config.get("model_type")
    except (EdgeDistillError, OSError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot be read ({error})", where=where) from error
    if kind != "llama":
        raise ModelError(
            f"a {kind!r} model is no Llama", where=where, fix="use a model of the Llama family"
        )
    base = PretrainedLlama(folder, config)
    try:
        _ = base.num_parameters, base.context
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"a Llama's number is missing or wrong: {error}", where=where) from error
    highest = max(base.vocabulary().values(), default=-1)
    if highest >= base.num_rows:
        raise ModelError(
            f"the tokenizer's ids reach {highest}, the model has {base.num_rows} embeddings",
            where=str(folder / TOKENIZER),
            fix="give the tokenizer that the model was trained with",
        )
    return base


def require_same_vocabulary(teacher: PretrainedLlama, student: PretrainedLlama) -> None:
    """Refuse a student whose ids mean other tokens than its teacher's.

    Raises:
        ModelError: "vocabulary mismatch", with what differs.
    """
    known, own = teacher.vocabulary(), student.vocabulary()
    differing = sorted(token for token in known.keys() | own.keys()
                       if known.get(token) != own.get(token))  # fmt: skip
    what = ""
    if differing:
        shown = ", ".join(f"{token!r} is {_id(known, token)} for the teacher and {_id(own, token)} "
                          "for the student" for token in differing[:_SHOWN])  # fmt: skip
        what = f"{len(differing):,} tokens differ: {shown}"
    elif teacher.num_rows != student.num_rows:
        what = f"the teacher has {teacher.num_rows:,} rows of embeddings, the student "
        what += f"{student.num_rows:,}"
    if what:
        raise ModelError(
            f"vocabulary mismatch: {what}",
            where="student.source",
            fix="a student of the teacher's own family, a shape to train or cut, or "
            "distillation.tokens: aligned",
        )


def _id(vocabulary: Mapping[str, int], token: str) -> str:
    return str(vocabulary[token]) if token in vocabulary else "unknown"
