"""Catalogues: names to methods, explicit, imported only when a method runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from edgedistill.core.errors import SpecError


class Catalogue(Mapping[str, str]):
    """Maps a kind's name to `module:attribute`; `load` imports it.

    Specs and requests name kinds from a catalogue, never dotted paths.
    """

    def __init__(self, family: str, entries: dict[str, str]) -> None:
        self.family = family
        self._entries = dict(entries)

    def __getitem__(self, kind: str) -> str:
        return self._entries[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, kind: str) -> Any:
        """The object named `kind`; raises SpecError with the known names otherwise."""
        if kind not in self._entries:
            raise SpecError(
                f"unknown {self.family} {kind!r}", fix=f"one of: {', '.join(sorted(self._entries))}"
            )
        module, attribute = self._entries[kind].split(":")
        return getattr(import_module(module), attribute)
