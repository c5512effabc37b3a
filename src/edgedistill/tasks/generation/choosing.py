"""Which template a task speaks in, and whether its tokenizer can write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from edgedistill.core.errors import SpecError
from edgedistill.tasks.generation.encoding import missing_special_tokens
from edgedistill.tasks.generation.template import Template, TurnTemplate
from edgedistill.tasks.generation.templates import TEMPLATES
from edgedistill.tasks.generation.tokenizer_folder import (
    chat_template_of,
    open_tokenizer,
    special_tokens_of,
)

#: The name by which a task asks for the tokenizer's own.
OWN = "tokenizer"


def template_for(name: str, folder: Path) -> Template:
    """The template `name` for the tokenizer in `folder`.

    Raises:
        ModelError: the tokenizer cannot be read.
        SpecError: it lacks the template's marks, or has no template and no marks of its own.
        MissingExtra: it has a chat template, and transformers is not installed.
    """
    if name == OWN:
        return chat_template_of(folder) or _bare(folder)
    template: Template = TEMPLATES.load(name)
    tokenizer = open_tokenizer(folder)
    if missing := missing_special_tokens(tokenizer, template):
        raise SpecError(
            f"the tokenizer lacks {', '.join(missing)}, which the template {name} writes",
            where="template",
            fix=f"template: {_fitting(tokenizer)}",
        )
    return template


def _fitting(tokenizer: tokenizers.Tokenizer) -> str:
    known = [n for n in TEMPLATES if not missing_special_tokens(tokenizer, TEMPLATES.load(n))]
    return " or ".join([*known, OWN])


def _bare(folder: Path) -> TurnTemplate:
    """The begin mark, the question, the answer, the end mark: all that a base model knows."""
    tokenizer, own = open_tokenizer(folder), special_tokens_of(folder)
    settings: dict[str, Any] = json.loads(tokenizer.to_str())
    special = {token["content"] for token in settings["added_tokens"] if token["special"]}
    begin, end = (t if t in special else None for t in (own.get("bos_token"), own.get("eos_token")))
    if end is None:
        raise SpecError(
            "the tokenizer has neither a chat template nor a mark of the end (eos_token)",
            where=str(folder),
            fix="name eos_token in tokenizer_config.json, or add a chat template",
        )
    return TurnTemplate(
        begin=begin or "",
        system=("", ""),
        user=("", ""),
        assistant=("", end),
        special_tokens=tuple(token for token in (begin, end) if token is not None),
    )
