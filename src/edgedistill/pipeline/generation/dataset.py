"""Stage `data`: read conversations and out-of-bounds prompts, look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import DataError, MissingExtra, SpecError
from edgedistill.core.files import read_json, sha256_of, write_json
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.data.conversation_report import ConversationReport, report_on
from edgedistill.data.conversations import ConversationColumns, Fault, read_conversations
from edgedistill.data.malformed import set_aside
from edgedistill.data.reading import read_examples
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.store import StageResult
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.written import schema_check

SPLITS = ("train", "validation", "test")
QUARANTINE = "quarantine-{split}.jsonl"


@dataclass(frozen=True)
class Conversations:
    """The rows of a task by split; `outside`: prompts that must be refused, by split; `schema`:
    the JSON Schema of every answer, if there is one; `edge_cases`: hard rows, scored apart;
    `unlabelled`: prompts that the teacher is to answer."""

    train: tuple[Conversation, ...]
    validation: tuple[Conversation, ...]
    test: tuple[Conversation, ...]
    outside: Mapping[str, tuple[str, ...]]
    schema: Mapping[str, Any] | None
    edge_cases: tuple[Conversation, ...] = ()
    unlabelled: tuple[str, ...] = ()

    @property
    def has_sections(self) -> bool:
        """Whether answers are learned that have a draft or a thinking before the response."""
        return any(row.is_hard for row in self.train)

    def split(self, name: str) -> tuple[Conversation, ...]:
        """The rows of train, validation or test."""
        rows: tuple[Conversation, ...] = getattr(self, name)
        return rows


@dataclass(frozen=True)
class PreparedConversations:
    """The rows, what was found in them, and the stage that made them."""

    rows: Conversations
    findings: tuple[tuple[str, str], ...]
    stage: StageResult


def prepare_conversations(context: Context[GenerationSpec]) -> PreparedConversations:
    """Read the task's rows once; a second run finds them."""
    spec = context.spec
    inputs = {
        "data": spec.data.model_dump(mode="json"),
        "outside": spec.boundary.out_of_bounds.model_dump(mode="json"),
        "edge_cases": spec.boundary.edge_cases,
        "schema": spec.output.schema_file,
        "files": {
            str(path): sha256_of(path) for path in task_files(context.root, spec) if path.is_file()
        },
    }

    def compute(folder: Path) -> None:
        rows, report = load_conversations(spec, context.root, quarantine=folder)
        write_json(folder / "conversations.json", _as_json(rows))
        write_json(folder / "report.json", report.as_json())
        write_json(folder / "findings.json", [list(finding) for finding in report.findings()])

    stage = context.store.stage(
        "data", inputs, compute, rooms=("data", "core/conversation", "pipeline/generation/dataset")
    )
    return PreparedConversations(
        _from_json(read_json(stage.folder / "conversations.json")),
        tuple((s, text) for s, text in read_json(stage.folder / "findings.json")),
        stage,
    )


def load_conversations(
    spec: GenerationSpec, root: Path, *, quarantine: Path
) -> tuple[Conversations, ConversationReport]:
    """Every row that a task names.

    Args:
        quarantine: folder for malformed rows, if the task asks for one.

    Raises:
        DataError: files or rows are wrong. SpecError: the schema is.
    """
    columns = ConversationColumns(
        prompt=spec.data.prompt_column, response=spec.data.response_column,
        draft=spec.data.draft_column, thinking=spec.data.thinking_column,
        messages=spec.data.messages_column,
    )  # fmt: skip
    aside = spec.data.on_malformed == "quarantine"
    schema = read_schema(spec, root)
    fault = _schema_fault(schema)
    splits = {
        split: read_conversations(
            root / str(getattr(spec.data.files, split)),
            columns=columns,
            quarantine=quarantine / QUARANTINE.format(split=split) if aside else None,
            fault=fault,
        )
        for split in SPLITS
    }

    def prompts(name: str) -> tuple[str, ...]:
        column = spec.data.prompt_column
        examples = read_examples(root / name, text_column=column, label_column=None)
        return tuple(example.text for example in examples)

    outside = {
        split: prompts(name)
        for split in SPLITS
        if (name := getattr(spec.boundary.out_of_bounds, split)) is not None
    }
    edge_cases = spec.boundary.edge_cases
    hard = read_conversations(root / edge_cases, columns=columns, fault=fault) if edge_cases else ()
    rows = Conversations(
        **splits, outside=outside, schema=schema, edge_cases=hard,
        unlabelled=prompts(spec.data.unlabelled) if spec.data.unlabelled else (),
    )  # fmt: skip
    if rows.schema is not None and rows.has_sections:
        first = next(row for row in rows.train if row.is_hard)
        raise DataError(
            "a draft or a thinking before the answer, which the schema would not let be written",
            where=first.id,
            fix="leave draft and thinking out, or output.schema_file",
        )
    malformed = {split: set_aside(quarantine / QUARANTINE.format(split=split)) for split in SPLITS}
    return rows, report_on(splits, malformed, rows.unlabelled)


def _schema_fault(schema: Mapping[str, Any] | None) -> Fault | None:
    """A row whose expected answer breaks the schema teaches, or asks for, what may not be said."""
    check = schema_check(schema)
    if check is None:
        return None

    def fault(row: Conversation) -> str | None:
        problem = check.fault(row.response)
        return None if problem is None else f"the response breaks the task's schema: {problem}"

    return fault


def require_llm(spec: GenerationSpec) -> None:
    """Raise MissingExtra unless all that writes and runs the task's types of weights is here.

    Told before anything is begun: it is needed when hours of training are over.
    """
    with_onnx = {kind.startswith("onnx_") for kind in spec.student.weight_types}
    needed = {"gguf", "xllamacpp"} if False in with_onnx else set()
    if spec.output.schema_file is not None:
        needed |= {"jsonschema", "llguidance"} if True in with_onnx else {"jsonschema"}
    if any(find_spec(package) is None for package in needed):
        raise MissingExtra("a generation task", "llm")


def read_schema(spec: GenerationSpec, root: Path) -> Mapping[str, Any] | None:
    """The JSON Schema that the task names; None where it names none.

    Raises:
        SpecError: no JSON Schema, or one that answers cannot be held to as they are written.
    """
    if spec.output.schema_file is None:
        return None
    import jsonschema

    path = root / spec.output.schema_file
    try:
        schema = read_json(path)
        jsonschema.Draft202012Validator.check_schema(schema)
    except (OSError, ValueError, jsonschema.SchemaError) as error:
        raise SpecError(
            f"output.schema_file is no JSON Schema: {str(error).splitlines()[0]}",
            where=str(path),
            fix="a JSON Schema (draft 2020-12) of type object",
        ) from error
    if not isinstance(schema, dict):
        raise SpecError("the schema is no object", where=str(path))
    try:
        json_grammar(schema)
    except SpecError as error:
        raise SpecError(error.what, where=str(path), fix=error.fix) from error
    return schema


def task_files(root: Path, spec: GenerationSpec) -> list[Path]:
    """Every data file that a task names."""
    files, bounds = spec.data.files, spec.boundary.out_of_bounds
    names = [files.train, files.validation, files.test, spec.output.schema_file]
    names += [bounds.train, bounds.validation, bounds.test, spec.boundary.edge_cases]
    names += [spec.data.unlabelled]
    return [root / name for name in names if name is not None]


def _as_json(rows: Conversations) -> dict[str, Any]:
    return {
        **{split: [asdict(row) for row in rows.split(split)] for split in SPLITS},
        "outside": rows.outside,
        "schema": rows.schema,
        "edge_cases": [asdict(row) for row in rows.edge_cases],
        "unlabelled": rows.unlabelled,
    }


def _from_json(value: Mapping[str, Any]) -> Conversations:
    def conversations(entries: list[dict[str, Any]]) -> tuple[Conversation, ...]:
        return tuple(
            Conversation(e["id"], tuple(Turn(**turn) for turn in e["turns"]), e["metadata"])
            for e in entries
        )

    return Conversations(
        **{split: conversations(value[split]) for split in SPLITS},
        outside={split: tuple(prompts) for split, prompts in value["outside"].items()},
        schema=value["schema"],
        edge_cases=conversations(value["edge_cases"]),
        unlabelled=tuple(value["unlabelled"]),
    )
