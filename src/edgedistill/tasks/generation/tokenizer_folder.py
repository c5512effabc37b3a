"""A folder with a tokenizer, as transformers saves it: the tokenizer and its chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from edgedistill.core.errors import ModelError
from edgedistill.tasks.generation.chat_template import ChatTemplate, from_tokenizer

_TOKENIZER, _CONFIG, _TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"


def open_tokenizer(folder: Path) -> tokenizers.Tokenizer:
    """The tokenizer of a folder.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    file = folder / _TOKENIZER
    if not file.is_file():
        raise ModelError(
            f"no {_TOKENIZER} here", where=str(folder), fix="name the folder of a fast tokenizer"
        )
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise ModelError(
            f"the tokenizer cannot be read: {error}",
            where=str(file),
            fix="save the fast tokenizer again (tokenizer.save_pretrained)",
        ) from error


def chat_template_of(folder: Path) -> ChatTemplate | None:
    """The chat template of a folder; None where it has none.

    Raises:
        ModelError: the settings cannot be read.
        SpecError: the template is broken, or masks cannot be found with it.
        MissingExtra: there is one, and transformers is not installed.
    """
    settings = _settings(folder)
    file = folder / _TEMPLATE
    try:
        source = file.read_text(encoding="utf-8") if file.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(file)) from error
    if source is None:
        source = _default(settings.get("chat_template"))
    if source is None:
        return None
    return from_tokenizer(source, variables=special_tokens_of(folder))


def special_tokens_of(folder: Path) -> dict[str, str]:
    """The tokenizer's special tokens by name (`bos_token`, `eos_token` …).

    Raises:
        ModelError: the settings cannot be read.
    """
    named = {}
    for name, value in _settings(folder).items():
        token = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(token, str):
            named[name] = token
    return named


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    try:
        settings = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(file)) from error
    if not isinstance(settings, dict):
        raise ModelError("not a JSON object", where=str(file))
    return settings


def _default(templates: object) -> str | None:
    """The template itself, or of several named ones that for plain conversations."""
    if isinstance(templates, list):
        named = {t.get("name"): t.get("template") for t in templates if isinstance(t, dict)}
        templates = named.get("default")
    return templates if isinstance(templates, str) else None
