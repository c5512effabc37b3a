"""What a task file may say of compression: of the file, and of models without a smaller student.

What a pass does stands beside its arithmetic, in `models/structure` and `compress`; here is what
may be said of it, so that a wrong name, setting or order is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator

from edgedistill.core.file_compression import FileCompression
from edgedistill.core.file_passes import FilePass, in_possible_order
from edgedistill.core.search_time import SearchTime
from edgedistill.core.structural import AnyStructural, StructuralName

#: Stands for a search of the sequence.
AUTO = "auto"
FILE_PASSES: tuple[str, ...] = get_args(FilePass)
STRUCTURAL: tuple[str, ...] = get_args(StructuralName)
RecipeName: TypeAlias = Literal["small", "fast", "balanced"]

_PRUNING = frozenset({"prune_heads", "prune_neurons", "prune_encoder"})
#: Of a pass, what must not stand before it, and why.
_NOT_AFTER: Mapping[str, tuple[frozenset[str], str]] = {
    "prune_vocabulary": (frozenset({"factorise_embeddings"}), "the table is factorised by then"),
    "drop_layers": (
        _PRUNING | {"factorise_linear"}, "what was chosen in a layer would go with the layer",
    ),
    "prune_hidden": (
        frozenset({"factorise_linear", "factorise_embeddings"}), "its matrices are factors by then",
    ),
    "prune_heads": (frozenset({"factorise_linear"}), "factors have no heads"),
    "prune_neurons": (frozenset({"factorise_linear"}), "factors have no neurons"),
    "prune_encoder": (frozenset({"factorise_linear"}), "factors have no heads and neurons"),
}  # fmt: skip


def refuse_senseless(passes: Sequence[str], key: str) -> None:
    """Refuse a pass that stands twice, or where it can do nothing.

    Args:
        passes: names in their order. key: of the list, for the complaint.

    Raises:
        ValueError: with the key of the pass that is wrong.
    """
    for place, name in enumerate(passes):
        before, at = passes[:place], f"{key}.{place}"
        if name in before:
            raise ValueError(
                f"{at}: {name} stands twice; one with a higher share (or rounds) does the same"
            )
        if name in STRUCTURAL and (files := [p for p in before if p in FILE_PASSES]):
            raise ValueError(
                f"{at}: {name} changes the network, {files[0]} the file that is made of it: put "
                f"{name} first"
            )
        if name in FILE_PASSES:
            try:
                in_possible_order((*(p for p in before if p in FILE_PASSES), name))
            except ValueError as error:
                raise ValueError(f"{at}: {error}") from error
        wrong, why = _NOT_AFTER.get(name, (frozenset(), ""))
        if found := [p for p in before if p in wrong]:
            raise ValueError(f"{at}: {name} makes no sense after {found[0]}: {why}")
        if name in _PRUNING and "prune_encoder" in (name, *before) and _PRUNING & set(before):
            raise ValueError(f"{at}: prune_encoder removes heads and neurons itself: take it alone")


#: Costs no answer to texts like the task's: under these passes alone there is nothing to recover.
HARMLESS = frozenset({"prune_vocabulary"})
#: Tried where no sequence is named. Widths are left whole where depth pays more: a layer that is
#: gone costs nothing, half a layer still costs its start.
RECIPES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "small": (
        {"name": "prune_vocabulary"},
        {"name": "drop_layers", "share": 0.5},
        {"name": "prune_neurons", "share": 0.5},
        {"name": "factorise_embeddings", "rank": 0.33},
    ),
    "fast": (
        {"name": "prune_vocabulary"},
        {"name": "drop_layers", "share": 0.5},
    ),
    "balanced": (
        {"name": "prune_vocabulary"},
        {"name": "drop_layers", "share": 0.33},
        {"name": "prune_neurons", "share": 0.25},
    ),
}


def _entry(value: Any) -> Any:
    """A name alone stands for the pass with its defaults."""
    return {"name": value} if isinstance(value, str) and value not in FILE_PASSES else value


_PASS: TypeAdapter[Any] = TypeAdapter(AnyStructural)


def _known(value: Any) -> Any:
    """One complaint for a name that is none, instead of one a form."""
    entry = _entry(value)
    name = entry.get("name") if isinstance(entry, dict) else entry
    if isinstance(entry, dict) and name in FILE_PASSES:
        if set(entry) != {"name"}:
            raise ValueError(f"{name} has no settings")
        return name
    if isinstance(entry, (dict, str)) and name not in (*STRUCTURAL, *FILE_PASSES):
        raise ValueError(
            f"no pass is called {name!r}; one of: {', '.join((*STRUCTURAL, *FILE_PASSES))}"
        )
    if isinstance(entry, dict):
        try:
            return _PASS.validate_python(entry)
        except ValidationError as error:
            fault = error.errors()[0]
            option = ".".join(str(part) for part in fault["loc"][1:])
            raise ValueError(f"{option} of {name}: {fault['msg']}") from error
    return entry


AnyPass: TypeAlias = Annotated[
    AnyStructural | FilePass,
    BeforeValidator(_known, json_schema_input_type=AnyStructural | StructuralName | FilePass),
]


class CompressionSearch(SearchTime):
    """What `compress: auto` may spend on trying sequences of passes; the best of them are trained
    to the end in what is left of the budget."""


class CompressSpec(FileCompression):
    """What is done to the student before it ships; with `recipes`, `passes` or `search` (or nothing
    named) there is none that is smaller: what ships is the teacher itself, changed by passes and
    trained by the unchanged one. A recipe's name alone, a list of passes, or `auto` for a search,
    stands for a section with that."""

    recipes: Annotated[tuple[RecipeName, ...], Field(min_length=1)] = ("small", "fast", "balanced")
    """Named sequences to try; the smallest that meets the requirements ships."""
    passes: Annotated[tuple[AnyPass, ...], Field(min_length=1)] | None = None
    """A sequence of your own instead: each a name or a mapping of `name` and the pass's settings;
    passes on the file come last. Without any of those, several are tried on the file."""
    search: CompressionSearch | None = None
    """Given (`{}` for its defaults), sequences beside the recipes are tried in short trainings, and
    the best trained to the end (docs/how-to/compress-a-model.md)."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak of the training that recovers; left out: 5e-4 for states of up to 384 channels, less by
    the square of the width above (1.25e-4 for 768)."""

    @model_validator(mode="before")
    @classmethod
    def _one_thing_alone(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"search": {}} if value == AUTO else {"recipes": [value]}
        return {"passes": value} if isinstance(value, (list, tuple)) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> CompressSpec:
        if self.passes is not None and "recipes" in self.model_fields_set:
            raise ValueError("give recipes or a sequence of passes, not both")
        if self.passes is not None and self.search is not None:
            raise ValueError("search looks for the sequence: leave out passes, or search")
        if len(set(self.recipes)) != len(self.recipes):
            raise ValueError("recipes: each once")
        if self.artefact is not None and self.file_passes:
            raise ValueError(
                f"passes on the file stand in artefact: move {self.file_passes[0]} there"
            )
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """The passes on the file that are named; empty where several sequences are tried."""
        return super().asked or self.file_passes

    @property
    def asked_at(self) -> tuple[str, ...]:
        """The key of each of them in the task file."""
        own = (
            f"compress.passes.{i}" for i, p in enumerate(self.passes or ()) if isinstance(p, str)
        )
        return super().asked_at or tuple(own)

    @property
    def is_of_teacher(self) -> bool:
        """Whether what ships is the teacher itself, not a student that `student` describes."""
        of_file = set(FileCompression.model_fields)
        return not self.model_fields_set or bool(self.model_fields_set - of_file)

    @property
    def file_passes(self) -> tuple[str, ...]:
        """Of a sequence, the passes on the file."""
        return tuple(each for each in self.passes or () if isinstance(each, str))

    @property
    def structural(self) -> tuple[Any, ...]:
        """Of a sequence, the settings of the passes on the network."""
        return tuple(each for each in self.passes or () if not isinstance(each, str))

    @property
    def names(self) -> tuple[str, ...]:
        """Of a sequence, the names of all passes."""
        return tuple(each if isinstance(each, str) else each.name for each in self.passes or ())


def and_short(schema: dict[str, Any]) -> None:
    """Let a JSON Schema of the section be a recipe's name, `auto` or a list of passes, too."""
    passes = {"items": {}, "type": "array"}
    schema["anyOf"] = [{"enum": [*RECIPES, AUTO], "type": "string"}, passes, *schema["anyOf"]]


def require_whole(compress: CompressSpec | None, student: Any, distillation: Any) -> None:
    """Refuse a senseless sequence, and what has no place beside compression.

    Args:
        student, distillation: the task's sections.

    Raises:
        ValueError: with the key that is wrong.
    """
    if compress is None or not compress.is_of_teacher:
        return
    if student.model_fields_set:
        raise ValueError(
            "student: compress makes no smaller student: leave out student, or compress"
        )
    if distillation.search is not None:
        raise ValueError("distillation.strategy: auto compares strategies on a student; with "
                         "compress, name one")  # fmt: skip
    if distillation.generations > 1:
        raise ValueError("distillation.generations: what is compressed is not built anew")
    refuse_senseless(compress.names, "compress.passes")
