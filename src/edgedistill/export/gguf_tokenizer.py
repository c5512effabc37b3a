"""A `tokenizers` tokenizer as llama.cpp reads it: pieces, kinds, merges or scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedistill.core.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# llama.cpp's names of the kinds of pieces (`gguf.TokenType`).
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

_REGEX_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_REGEX_QWEN2 = _REGEX_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_SPLITS = {_REGEX_LLAMA3: "llama-bpe", _REGEX_QWEN2: "qwen2"}


@dataclass(frozen=True)
class GgufVocabulary:
    """What of a tokenizer goes into the file, a list entry for each row of the embeddings.

    `model`: "gpt2" (byte-level, with `merges`) or "llama" (SentencePiece, with `scores`).
    `pre`: llama.cpp's name of the rule that cuts text into words.
    `add_prefix`: a space is put before the text; `add_bos`, `add_eos`: as the tokenizer does.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str] | None
    scores: list[float] | None
    unknown_id: int | None
    add_prefix: bool
    add_bos: bool
    add_eos: bool


def gguf_vocabulary(
    tokenizer: Tokenizer, *, num_rows: int, bos_id: int | None, eos_id: int | None
) -> GgufVocabulary:
    """Translate `tokenizer` for a model of `num_rows` embeddings.

    The ids mean the same in both. How *text* is cut may still differ in rare places (normalisers,
    newer Unicode tables, runs of spaces), so a runtime that needs the same ids feeds ids.

    Raises:
        ModelError: not a BPE that llama.cpp knows, or more pieces than rows.
    """
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    model = spec["model"]
    if model["type"] != "BPE":
        raise ModelError(
            f"a GGUF file cannot hold a {model['type']} tokenizer",
            fix="a byte-level BPE, or a SentencePiece BPE with byte fallback",
        )
    tokens, types = _pieces(tokenizer, spec, num_rows)
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    sentencepiece = bool(model.get("byte_fallback"))
    unknown = model.get("unk_token") or ("<unk>" if "<unk>" in model["vocab"] else None)
    encoded = tokenizer.encode("a").ids
    return GgufVocabulary(
        model="llama" if sentencepiece else "gpt2",
        pre="default" if sentencepiece else _byte_level_rule(spec.get("pre_tokenizer")),
        tokens=tokens,
        types=_sentencepiece_types(tokens, types, unknown) if sentencepiece else types,
        merges=None if sentencepiece else [" ".join(pair) for pair in pairs],
        scores=_scores(tokens, pairs) if sentencepiece else None,
        unknown_id=tokenizer.token_to_id(unknown) if unknown else None,
        add_prefix=sentencepiece and _prefixes_space(spec),
        add_bos=bos_id is not None and encoded[:1] == [bos_id],
        add_eos=eos_id is not None and encoded[-1:] == [eos_id],
    )


def _pieces(
    tokenizer: Tokenizer, spec: dict[str, Any], num_rows: int
) -> tuple[list[str], list[int]]:
    """Piece and kind of every row; rows without a piece are marked unused."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    highest = max(vocabulary.values(), default=-1)
    if highest >= num_rows:
        raise ModelError(
            f"the tokenizer's ids reach {highest}, the model has {num_rows} embeddings",
            fix="give the tokenizer that the model was trained with",
        )
    tokens = [f"[PAD{i}]" for i in range(num_rows)]
    types = [UNUSED] * num_rows
    for piece, i in vocabulary.items():
        tokens[i], types[i] = piece, NORMAL
    for added in spec["added_tokens"]:
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    return tokens, types


def _sentencepiece_types(tokens: list[str], types: list[int], unknown: str | None) -> list[int]:
    """The kinds with the byte pieces (<0x00> to <0xFF>) and the unknown piece marked."""
    named: dict[str | None, int] = {f"<0x{byte:02X}>": BYTE for byte in range(256)}
    if unknown is not None:
        named[unknown] = UNKNOWN
    return [named.get(token, kind) for token, kind in zip(tokens, types, strict=True)]


def _scores(tokens: list[str], pairs: list[list[str]]) -> list[float]:
    """SentencePiece's scores: it joins the pair whose result scores highest, so rank negated.

    Pieces that no merge makes (characters, bytes) are never compared; they score lowest.
    """
    rank: dict[str, int] = {}
    for r, pair in enumerate(pairs):
        rank.setdefault("".join(pair), r)
    return [-float(rank.get(token, len(pairs))) for token in tokens]


def _byte_level_rule(pre_tokenizer: dict[str, Any] | None) -> str:
    """llama.cpp's name of a byte-level pre-tokenizer.

    The expression of `ByteLevel(use_regex=True)` is GPT-2's, "gpt-2" there; with `Digits` before
    it, it is "smollm". A `Split` before `ByteLevel(use_regex=False)` goes by its expression.
    """
    steps = [pre_tokenizer] if pre_tokenizer else []
    if pre_tokenizer and pre_tokenizer["type"] == "Sequence":
        steps = pre_tokenizer["pretokenizers"]
    last = steps[-1] if steps else {}
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space"):
        before, own = steps[:-1], last.get("use_regex", True)
        if own and not before:
            return "gpt-2"
        if own and len(before) == 1 and before[0] == {"type": "Digits", "individual_digits": True}:
            return "smollm"
        if not own and len(before) == 1 and before[0]["type"] == "Split":
            expression = before[0]["pattern"].get("Regex")
            if before[0]["behavior"] == "Isolated" and expression in _SPLITS:
                return _SPLITS[expression]
    raise ModelError(
        f"llama.cpp has no name for the pre-tokenizer {json.dumps(pre_tokenizer)}",
        fix="ByteLevel with its expression and without a prefix space, alone or after Digits; "
        "or the Split of Llama 3 or Qwen 2",
    )


def _prefixes_space(spec: dict[str, Any]) -> bool:
    """Whether a SentencePiece-like tokenizer puts a space before the text."""
    for part in (spec.get("pre_tokenizer"), spec.get("normalizer")):
        steps = part.get("normalizers", part.get("pretokenizers", [part])) if part else []
        for step in steps:
            if step["type"] == "Prepend" or step.get("prepend_scheme") in ("first", "always"):
                return True
    return False
