"""A model's config.json, read with care: a key that is missing or of no use is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgedistill.core.errors import ModelError, SpecError

FILE_NAME = "config.json"

#: Far above any network that exists; what is beyond is a slip, and would take hours to list.
MOST = 10**9


@dataclass(frozen=True)
class ModelConfig:
    """The values of one config.json; `where` names it in errors."""

    values: Mapping[str, Any]
    where: str

    def count(self, *keys: str, default: int | None = None, most: int = MOST) -> int:
        """The first of `keys` that is there and not null: a whole number of at least 1.

        Raises:
            ModelError: none is there and there is no default; a value that is no such number.
        """
        for key in keys:
            if self.values.get(key) is not None:
                return self._checked(key, self.values[key], most)
        if default is None:
            raise ModelError(
                f"{' or '.join(keys)} is missing",
                where=self.where,
                fix="the config.json of a whole model; sizes cannot be guessed",
            )
        return default

    def _checked(self, key: str, value: Any, most: int) -> int:
        # A flag is a whole number to Python.
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ModelError(
                f"{key} is {value!r}", where=self.where, fix=f"a whole number from 1 to {most:,}"
            )
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Whether `key` is set; raises ModelError where it is neither true nor false."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ModelError(f"{key} is {value!r}", where=self.where, fix="true or false")
        return value

    def text(self, key: str) -> str | None:
        """The text of `key`; None where it is missing or something else."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def texts(self, key: str) -> list[str]:
        """The list of texts of `key`; empty where it is missing."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ModelError(f"{key} is {value!r}", where=self.where, fix="a list of names")
        return value

    def refuse(self, key: str, *, because: str) -> None:
        """Raise ModelError where `key` is set, since its tensors are not known here."""
        if self.values.get(key):
            raise ModelError(f"{key} is {self.values[key]!r}", where=self.where, fix=because)


def known_names() -> list[str]:
    """Public models whose config.json comes with the program."""
    folder = files("edgedistill.sizing") / "known"
    return sorted(each.name.removesuffix(".json") for each in folder.iterdir())


def read_config(source: str) -> ModelConfig:
    """Read a config.json, a folder that holds one, or a public model by its name.

    Raises:
        SpecError: there is no such file, folder or name.
        ModelError: no JSON, or no configuration of a model.
    """
    path = Path(source)
    if path.is_dir():
        path = path / FILE_NAME
    if path.is_file():
        return parsed(_text_of(path), where=str(path))
    if source in known_names():
        known = files("edgedistill.sizing") / "known" / f"{source}.json"
        return parsed(known.read_text(encoding="utf-8"), where=source)
    raise SpecError(
        "no such config.json, folder with one, or known model",
        where=source,
        fix=f"a path, or one of: {', '.join(known_names())}",
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read: {error}", where=str(path), fix="UTF-8 JSON") from error


def parsed(text: str, *, where: str) -> ModelConfig:
    """A configuration from its JSON text; raises ModelError where it is none."""
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"no JSON: {error}", where=where, fix="a model's config.json") from error
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise ModelError(
            "not the configuration of a model: it names no model_type",
            where=where,
            fix="the config.json that Hugging Face transformers writes beside a model's weights",
        )
    return ModelConfig(values, where)
