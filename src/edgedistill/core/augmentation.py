"""Settings of the texts that are made for a student to learn from, kind by kind."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from edgedistill.core.section import Section

#: Where a template takes a text.
PLACE = "{text}"
NumMade = Annotated[int, Field(ge=1)]


class AugmentationSpec(Section):
    """Texts made from the training texts; the teacher labels them."""

    num_texts: Annotated[int, Field(ge=0)] = 20_000
    """How many texts to make."""

    @property
    def most_texts(self) -> int:
        """Texts of all kinds that are asked for; fewer may be made."""
        return self.num_texts


def _framing(template: str) -> str:
    if template.count(PLACE) != 1:
        raise ValueError(f"a template has {PLACE} once, for the text that it frames")
    if not template.replace(PLACE, "").strip():
        raise ValueError(f"a template says something beside {PLACE}")
    return template


def _distinct(entries: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(entries)) != len(entries):
        raise ValueError("each entry once")
    return entries


Template: TypeAlias = Annotated[str, AfterValidator(_framing)]
EdgeSource: TypeAlias = Literal["near", "edge_cases", "out_of_bounds"]
Edit: TypeAlias = Literal["characters", "synonyms", "distractors"]


class ParaphraseSpec(Section):
    """Texts in frames that people put around them, such as phrases of politeness."""

    templates: Annotated[tuple[Template, ...], Field(min_length=1), AfterValidator(_distinct)]
    """The frames: plain sentences, each with `{text}` once, for the text."""
    num_texts: NumMade = 5000
    """How many to make."""


class EdgeCaseSpec(Section):
    """Texts that the task can hardly tell apart: two joined, words left out, a typo."""

    of: Annotated[tuple[EdgeSource, ...], Field(min_length=1), AfterValidator(_distinct)] = (
        "near",
    )
    """What they are made of, in equal shares. `near`: the texts whose two likeliest answers are
    nearest to each other, joined with such as have the second; `edge_cases`: `boundary.edge_cases`;
    `out_of_bounds`: `boundary.out_of_bounds.train`, joined with texts of the task."""
    near_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the texts that counts as `near`."""
    num_texts: NumMade = 5000
    """How many to make."""


class AdversarialSpec(Section):
    """Texts changed in a way that leaves their answer, and the teacher, as they were."""

    edits: Annotated[tuple[Edit, ...], Field(min_length=1), AfterValidator(_distinct)] = (
        "characters",
        "synonyms",
        "distractors",
    )
    """How they are changed, in equal shares. `characters`: typos, look-alike letters, other case;
    `synonyms`: words for those that lie nearest in the teacher's token table; `distractors`: a part
    of a text that has another answer, put before or behind."""
    num_texts: NumMade = 5000
    """How many to try; those to which the teacher answers otherwise than before are left out."""


class TextAugmentation(AugmentationSpec):
    """Texts made from the training texts; the teacher labels them."""

    num_texts: Annotated[int, Field(ge=0)] = 20_000
    """How many texts to make by leaving words out, joining two texts, and typos."""
    paraphrases: ParaphraseSpec | None = None
    """Texts in frames, such as phrases of politeness; left out: none."""
    edge_cases: EdgeCaseSpec | None = None
    """Texts near the boundary between answers, or of the task; left out: none."""
    adversarial: AdversarialSpec | None = None
    """Texts changed without a change of their answer; left out: none."""

    @property
    def most_texts(self) -> int:
        """Texts of all kinds that are asked for; fewer may be made."""
        others = (self.paraphrases, self.edge_cases, self.adversarial)
        return self.num_texts + sum(each.num_texts for each in others if each)

    @property
    def has_stages(self) -> bool:
        """Whether texts of the late stages of a curriculum are made."""
        return bool(self.edge_cases or self.adversarial)

    def refuse_what_lacks(
        self, *, edge_cases: str | None, out_of_bounds: str | None, max_characters: int
    ) -> None:
        """Raise ValueError where the task has not what texts are to be made of.

        Args:
            edge_cases, out_of_bounds: the files that the task names, if any.
            max_characters: longer texts are refused by the model.
        """
        files: dict[EdgeSource, str | None] = {
            "near": "", "edge_cases": edge_cases, "out_of_bounds": out_of_bounds,
        }  # fmt: skip
        for place, source in enumerate(self.edge_cases.of if self.edge_cases else ()):
            if files[source] is None:
                key = "edge_cases" if source == "edge_cases" else "out_of_bounds.train"
                raise ValueError(f"edge_cases.of.{place}: {source} needs the file boundary.{key}")
        for place, template in enumerate(self.paraphrases.templates if self.paraphrases else ()):
            if len(template) - len(PLACE) >= max_characters:
                raise ValueError(
                    f"paraphrases.templates.{place}: leaves no room for a text in the "
                    f"{max_characters} characters of input.max_characters"
                )
