"""Stage `student`: a smaller Llama learns from the teacher, or (as control) from the rows alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgedistill.core.files import read_json, write_json
from edgedistill.core.generation_task import GenerationSpec
from edgedistill.models.language.pretrained import PretrainedLlama
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.alignment import aligned_method, share_of
from edgedistill.pipeline.generation.dataset import PreparedConversations
from edgedistill.pipeline.generation.pretrained import PRETRAINED, cut_of, marked
from edgedistill.pipeline.generation.reader import OwnReader, Reader
from edgedistill.pipeline.generation.teacher import (
    CHECKPOINTS,
    CONFIG,
    FROM_NOTHING,
    TRAINING,
    Teacher,
    context_tokens,
    model_config,
    run_training,
    sequences,
)
from edgedistill.pipeline.generation.transfer import TransferSet
from edgedistill.pipeline.store import StageResult

ROOMS = ("train", "models/language", "tasks/generation", "pipeline/generation")
#: Logits that a distillation step holds at a time, where `CHUNK_SIZE` rows are fewer. Chunks of
#: 512 rows over 1,024 words took 31 ms a step forward, of 128 rows 38, of 2,048 rows 34.
CHUNK_LOGITS = 1 << 19
#: Training rows on which the units of a teacher are ranked.
NUM_CALIBRATION = 256


@dataclass(frozen=True)
class Ground:
    """What every student of a run grows on; `student_base`: a pretrained one to start from;
    `own_reader`: where the student has other tokens than its teacher."""

    context: Context[GenerationSpec]
    data: PreparedConversations
    teacher: Teacher
    transfer: TransferSet
    student_base: PretrainedLlama | None = None
    own_reader: OwnReader | None = None

    @property
    def reader(self) -> Reader:
        """How the student reads and writes."""
        return self.own_reader or self.teacher


@dataclass(frozen=True)
class Student:
    """A trained student on disk, and the record of its training."""

    stage: StageResult
    training: dict[str, Any]

    @cached_property
    def config(self) -> dict[str, Any]:
        """What its config.json says."""
        found: dict[str, Any] = read_json(self.stage.folder / CONFIG)
        return found

    def load(self) -> Any:
        """The model in evaluation mode."""
        from edgedistill.models.language.llama import load_model

        return load_model(self.stage.folder)


def train_student(ground: Ground, *, distilled: bool = True) -> Student:
    """The trained student; `distilled=False` trains the same network on the rows alone."""
    spec = ground.context.spec
    inputs = {
        "transfer": ground.transfer.fingerprint if distilled else None,
        "teacher": ground.teacher.stage.fingerprint,
        "student": spec.student.model_dump(mode="json", exclude={"weight_types"}),
        "base": ground.student_base.digests() if ground.student_base else None,
        "distillation": spec.distillation.model_dump(mode="json") if distilled else None,
        # Samples end there; the teacher's fingerprint knows only its sum with the prompts' limit.
        "max_new_tokens": spec.output.max_new_tokens if _is_on_policy(spec, distilled) else None,
        "seed": spec.seed,
        "reader": ground.own_reader.fingerprint if ground.own_reader else None,
    }
    name = "student" if distilled else "control"

    def compute(folder: Path) -> None:
        from edgedistill.models.language.llama import save_model

        model = _new(ground)
        step, rows = method_of(ground) if distilled else _control_method(ground)
        reader = ground.reader
        validation = sequences(reader.encoder, ground.data.rows.validation, reader.tokenizer.pad)
        record = run_training(
            ground.context, model, step, rows, validation, spec.student.training, folder, name,
            learning_rate=PRETRAINED if ground.student_base else FROM_NOTHING,
            is_guarded=not _is_on_policy(spec, distilled),
        )  # fmt: skip
        save_model(model, folder)
        shutil.rmtree(folder / CHECKPOINTS)
        write_json(folder / TRAINING, record | {"alignment": share_of(rows)})

    stage = ground.context.store.stage(name, inputs, compute, rooms=ROOMS)
    return Student(stage, read_json(stage.folder / TRAINING))


def _new(ground: Ground) -> Any:
    """The student before training: of random weights, pretrained, or cut out of the teacher."""
    from edgedistill.models.language.llama import build, load_model
    from edgedistill.models.language.slicing import slice_model

    spec, teacher, tokenizer = ground.context.spec, ground.teacher, ground.reader.tokenizer
    if ground.student_base is not None:
        return marked(load_model(ground.student_base.folder), tokenizer)
    if spec.student.initialise == "new":
        return build(model_config(spec.student.shape, spec), tokenizer, seed=spec.seed)
    rows = ground.data.rows.train[:NUM_CALIBRATION]
    return slice_model(
        teacher.load(),
        cut_of(spec.student.shape, teacher.config["num_hidden_layers"]),
        [teacher.encoder.encode(row).ids.tolist() for row in rows],
    )


def method_of(ground: Ground) -> tuple[Any, Any]:
    """How the student is distilled, and what from: a training step and its set."""
    from edgedistill.train.distill.chunked import CHUNK_SIZE
    from edgedistill.train.distill.next_token import LiveNextToken, OfflineNextToken
    from edgedistill.train.distill.token_level import TokenLevelConfig
    from edgedistill.train.tune.next_token import NextToken

    settings, rows = ground.context.spec.distillation, ground.transfer.rows
    if settings.hard_weight == 1:
        return NextToken(), rows
    chunk_size = max(CHUNK_SIZE, CHUNK_LOGITS // len(ground.teacher.tokenizer))
    if settings.is_aligned:
        return aligned_method(ground, chunk_size=chunk_size)
    config = TokenLevelConfig(
        divergence=settings.divergence,
        temperature=settings.temperature,
        hard_weight=settings.hard_weight,
        chunk_size=chunk_size,
    )
    if settings.is_cached and not settings.on_policy:
        return OfflineNextToken(config), rows
    teacher = ground.teacher.load()
    usual = OfflineNextToken(config) if settings.is_cached else LiveNextToken(teacher, config)
    if settings.on_policy:
        return _on_policy(ground, usual, teacher, config), rows
    return usual, rows


def _on_policy(ground: Ground, usual: Any, teacher: Any, config: Any) -> Any:
    """The usual step, but in a share of the batches the student answers itself."""
    from edgedistill.train.distill.on_policy import OnPolicy, Sampling

    spec, tokenizer = ground.context.spec, ground.teacher.tokenizer
    sampling = Sampling(
        share=spec.distillation.on_policy,
        max_new_tokens=spec.output.max_new_tokens,
        max_tokens=context_tokens(spec),
        end_id=tokenizer.end,
        pad_id=tokenizer.pad,
    )
    return OnPolicy(usual, teacher, config, sampling)


def _is_on_policy(spec: GenerationSpec, distilled: bool) -> bool:
    return distilled and spec.distillation.on_policy > 0


def _control_method(ground: Ground) -> tuple[Any, Any]:
    from edgedistill.train.tune.next_token import NextToken

    reader = ground.reader
    return NextToken(), sequences(reader.encoder, ground.data.rows.train, reader.tokenizer.pad)
