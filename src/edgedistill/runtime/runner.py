"""What every runner of bundles gives to the commands: one Protocol, one class a kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from edgedistill.runtime.manifest import Manifest


class Answer(Protocol):
    """One answer, or an abstention with its reason."""

    @property
    def answer(self) -> str | None:
        """What was answered, as text; None if abstained."""
        ...

    @property
    def abstained(self) -> bool:
        """Whether there is no answer."""
        ...

    @property
    def reason(self) -> str | None:
        """Why it abstained, for machines."""
        ...

    @property
    def detail(self) -> str:
        """Why it abstained, for people."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...

    def as_line(self) -> str:
        """The answer on one line, for people."""
        ...


class Runner(Protocol):
    """A bundle, ready to answer. Safe to call from several threads."""

    manifest: Manifest

    def predict(self, texts: Sequence[Any]) -> Sequence[Answer]:
        """One answer for each input, in order; an input never raises."""
        ...

    def golden_row(self, text: str) -> dict[str, Any]:
        """What is recorded of a golden example: `text`, its `label` or `answer`, `reason`, more."""
        ...

    def golden_difference(self, row: Mapping[str, Any]) -> float:
        """How far the outputs are from a recorded row's, beyond the answer itself."""
        ...

    def network_calls(self, texts: Sequence[str]) -> tuple[Callable[[Any], object], list[Any]]:
        """The network alone: a function and its inputs, for timing without tokenizer and guard."""
        ...


@runtime_checkable
class Writer(Protocol):
    """A runner whose answers come piece by piece."""

    def write(self, text: str, on_text: Callable[[str], None]) -> int:
        """Answer, with each piece told as it is written; the number of tokens written."""
        ...
