"""What a generation bundle needs beside its files; it stands in the manifest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgedistill.core.errors import BundleError
from edgedistill.runtime.generation.sections import read_sections
from edgedistill.runtime.manifest import MANIFEST

ROLES = ("system", "user", "assistant")
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Frame:
    """Token ids before and after what a role says; `trimmed`: white space around it is dropped."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    trimmed: bool = False


@dataclass(frozen=True)
class GenerationSettings:
    """How a conversation becomes token ids, and what an answer must be.

    The ids are those of training: content is encoded by itself, so that no text can pose as a
    mark of the template.

    Args:
        frames: of each role that the template knows.
        start: ids before everything.
        answer: ids that begin the assistant's turn.
        end: ids that end an answer.
        context: tokens of prompt and answer together that the model can hold.
        max_new_tokens: longest answer.
        schema: JSON Schema that every answer meets; None: any text.
        sections: whether answers may have a draft and a thinking before the response, which alone
            is given out.
        beams, length_penalty: of the search for an answer; see `LanguageSession.generate`.
    """

    frames: Mapping[str, Frame]
    start: tuple[int, ...]
    answer: tuple[int, ...]
    end: tuple[int, ...]
    context: int
    max_new_tokens: int
    schema: Mapping[str, Any] | None = None
    sections: bool = False
    beams: int = 1
    length_penalty: float = 1.0

    def search(self) -> dict[str, Any]:
        """Arguments of `LanguageSession.generate` that say how an answer is looked for."""
        return {"beams": self.beams, "length_penalty": self.length_penalty}

    def prompt_ids(self, turns: Sequence[tuple[str, str]], encode: Encode) -> list[int]:
        """Ids of (role, content) turns, up to where the answer begins."""
        ids = list(self.start)
        for role, content in turns:
            frame = self.frames[role]
            text = content.strip() if frame.trimmed else content
            ids += [*frame.before, *encode(text), *frame.after]
        return [*ids, *self.answer]

    def response(self, written: str) -> str | None:
        """The answer of what the model wrote; None where it never came to it."""
        return read_sections(written).response if self.sections else written

    def as_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GenerationSettings:
        """What `as_json` wrote; raises BundleError where it is malformed."""
        try:
            settings = cls(
                frames={
                    role: Frame(
                        _ids(frame["before"]), _ids(frame["after"]), bool(frame.get("trimmed"))
                    )
                    for role, frame in values["frames"].items()
                },
                start=_ids(values["start"]),
                answer=_ids(values["answer"]),
                end=_ids(values["end"]),
                context=int(values["context"]),
                max_new_tokens=int(values["max_new_tokens"]),
                schema=values.get("schema"),
                sections=bool(values.get("sections")),
                beams=int(values.get("beams", 1)),
                length_penalty=float(values.get("length_penalty", 1.0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _malformed(f"{type(error).__name__} {error}") from error
        if "user" not in settings.frames or not settings.frames.keys() <= set(ROLES):
            raise _malformed(f"frames for {sorted(settings.frames)}")
        if not 0 < settings.max_new_tokens < settings.context or not settings.end:
            raise _malformed("context, max_new_tokens or end are out of range")
        if settings.beams < 1 or not math.isfinite(settings.length_penalty):
            raise _malformed("beams or length_penalty are out of range")
        return settings


def _ids(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _malformed(detail: str) -> BundleError:
    return BundleError(
        f"the settings of generation are malformed: {detail}",
        where=MANIFEST,
        fix="make the bundle again",
    )
