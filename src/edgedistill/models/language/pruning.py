"""A Llama with the tokens of its task alone: a smaller table, and the same answers.

Kept are the tokens in use, the pieces that merges make them of, the marks, and the characters or
bytes that spell everything else: text that was read before is read by the same tokens, and any
other text by more of them. Of 32,000 to 128,000 tokens a narrow task uses a few thousand; the
table is most of a small model's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from edgedistill.core.errors import ModelError
from edgedistill.models.language.llama import empty

_MARKS = ("bos_token_id", "eos_token_id", "pad_token_id")
_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


@dataclass(frozen=True)
class PrunedVocabulary:
    """A tokenizer with fewer tokens. `kept`: their former ids, ascending; a new id is a place."""

    tokenizer: Tokenizer
    kept: tuple[int, ...]


def prune_vocabulary(tokenizer: Tokenizer, used: Collection[int]) -> PrunedVocabulary:
    """Leave out the tokens that neither `used` needs nor the spelling of other texts.

    Args:
        used: ids of the task's texts, tokenized.

    Raises:
        ModelError: no BPE, or an id that is none of its tokens.
    """
    settings: dict[str, Any] = json.loads(tokenizer.to_str())
    model = settings["model"]
    if model["type"] != "BPE":
        raise ModelError(
            f"a {model['type']} vocabulary cannot be cut down",
            where="teacher.vocabulary",
            fix="set it to whole",
        )
    vocabulary: dict[str, int] = model["vocab"]
    added = {token["content"]: token["id"] for token in settings["added_tokens"]}
    pieces = {i: piece for piece, i in (vocabulary | added).items()}
    if unknown := sorted(set(used) - pieces.keys()):
        raise ModelError(f"no token has the id {unknown[0]}")
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    wanted = {pieces[i] for i in used} | set(added) | _spelling(model, merges)
    wanted |= _parts(wanted, merges)
    kept = tuple(sorted(i for i, piece in pieces.items() if piece in wanted))
    new = {old: place for place, old in enumerate(kept)}
    model["vocab"] = {piece: new[i] for piece, i in vocabulary.items() if piece in wanted}
    model["merges"] = [[a, b] for a, b in merges if a in wanted and b in wanted and a + b in wanted]
    for token in settings["added_tokens"]:
        token["id"] = new[token["id"]]
    _renumber(settings.get("post_processor"), new)
    return PrunedVocabulary(Tokenizer.from_str(json.dumps(settings)), kept)


def with_vocabulary(model: LlamaForCausalLM, pruned: PrunedVocabulary) -> LlamaForCausalLM:
    """The model with the rows of the tokens that were kept; `model` is left as it is.

    Its logits are those of the kept tokens, unchanged.
    """
    new = {old: place for place, old in enumerate(pruned.kept)}
    config: dict[str, Any] = model.config.to_dict()
    for key in _MARKS:
        config[key] = _as_new(config.get(key), new)
    smaller = empty(LlamaConfig(**{**config, "vocab_size": len(pruned.kept)}))
    rows = torch.tensor(pruned.kept)
    state = {
        name: tensor[rows] if name in _TABLES else tensor
        for name, tensor in model.state_dict().items()
    }
    smaller.load_state_dict(state)
    return smaller


def _spelling(model: Mapping[str, Any], merges: list[list[str]]) -> set[str]:
    """What no merge makes: bytes, and single characters; where bytes stand in for a character
    that is missing, they are enough. The piece for the unknown stays too."""
    made = {a + b for a, b in merges}
    single = {piece for piece in model["vocab"] if piece not in made}
    if model.get("byte_fallback"):
        # "▁" begins every word: it must not be spelled in bytes.
        single = {piece for piece in single if _is_byte(piece) or piece == "▁"}
    unknown = {piece for piece in model["vocab"] if piece in (model.get("unk_token"), "<unk>")}
    return single | unknown


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _parts(wanted: Collection[str], merges: list[list[str]]) -> set[str]:
    """All pieces on any way by which merges make the wanted ones."""
    ways: dict[str, list[list[str]]] = {}
    for pair in merges:
        ways.setdefault("".join(pair), []).append(pair)
    found, open_to = set[str](), list(wanted)
    while open_to:
        for pair in ways.get(open_to.pop(), ()):
            fresh = set(pair) - found
            found |= fresh
            open_to += fresh
    return found


def _renumber(processor: Any, new: Mapping[int, int]) -> None:
    """Ids that a post-processor writes around a text, wherever they stand in its settings."""
    if isinstance(processor, dict):
        for token in (processor.get("special_tokens") or {}).values():
            token["ids"] = [new[i] for i in token["ids"]]
        for inner in processor.get("processors", ()):
            _renumber(inner, new)


def _as_new(ids: Any, new: Mapping[int, int]) -> Any:
    if isinstance(ids, list):
        return [new[i] for i in ids if i in new]
    return new.get(ids)
