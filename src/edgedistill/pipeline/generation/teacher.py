"""Stage `teacher`: a Llama trained from nothing, with a vocabulary learned from the rows, or a
pretrained one with its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgedistill.core.conversation import Conversation
from edgedistill.core.files import read_json, write_json
from edgedistill.core.generation_task import GenerationSpec, LanguageModelShape, LanguageTraining
from edgedistill.models.language.pretrained import PretrainedLlama
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.dataset import PreparedConversations
from edgedistill.pipeline.store import StageResult
from edgedistill.tasks.generation.choosing import template_for
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.sections import spoken

TOKENIZER, TRAINING, CHECKPOINTS = "tokenizer.json", "training.json", "checkpoints"
CONFIG = "config.json"
ROOMS = (
    "train",
    "models/language",
    "tasks/generation",
    "pipeline/generation/teacher",
    "pipeline/generation/pretrained",
)
#: Peak learning rate of a network that starts from nothing, or cut out of another.
FROM_NOTHING = 2e-3
#: Marks around the prompt and its answer.
FRAME_TOKENS = 32


@dataclass(frozen=True)
class Teacher:
    """The teacher on disk, and the record of its training."""

    stage: StageResult
    training: dict[str, Any]
    encoder: ConversationEncoder

    @property
    def folder(self) -> Path:
        """Configuration, weights and tokenizer."""
        return self.stage.folder

    @cached_property
    def tokenizer(self) -> Any:
        """The vocabulary that teacher and student share."""
        from edgedistill.models.language.tokenizer import LanguageTokenizer

        return LanguageTokenizer.of_model(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What its config.json says."""
        found: dict[str, Any] = read_json(self.folder / CONFIG)
        return found

    def load(self) -> Any:
        """The model in evaluation mode."""
        from edgedistill.models.language.llama import load_model

        return load_model(self.folder)


def context_tokens(spec: GenerationSpec) -> int:
    """Tokens of a prompt, its marks and its answer together."""
    return spec.input.max_tokens + spec.output.max_new_tokens + FRAME_TOKENS


def prepare_teacher(
    context: Context[GenerationSpec],
    data: PreparedConversations,
    base: PretrainedLlama | None = None,
) -> Teacher:
    """Train it on the training split, stop early on validation.

    Args:
        base: where a pretrained one comes from; None trains one from nothing.
    """
    spec = context.spec
    inputs = {
        "data": data.stage.fingerprint,
        "settings": spec.teacher.model_dump(mode="json"),
        "template": spec.template,
        "context": context_tokens(spec),
        "seed": spec.seed,
        "base": base.digests() if base else None,
    }

    def compute(folder: Path) -> None:
        from edgedistill.models.language.llama import save_model
        from edgedistill.pipeline.generation.pretrained import fine_tuned

        if base is None:
            model, record = _new(context, data, folder)
        else:
            model, record = fine_tuned(context, data, base, folder)
        save_model(model, folder)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        write_json(folder / TRAINING, record)

    stage = context.store.stage("teacher", inputs, compute, rooms=ROOMS)
    return Teacher(stage, read_json(stage.folder / TRAINING), encoder_of(stage.folder, spec))


def _new(
    context: Context[GenerationSpec], data: PreparedConversations, folder: Path
) -> tuple[Any, dict[str, Any]]:
    """A model trained from nothing, its tokenizer in `folder`, and the record of its training."""
    from edgedistill.models.language.llama import build
    from edgedistill.train.tune.next_token import NextToken

    spec, training = context.spec, context.spec.teacher.training
    tokenizer = learned_tokenizer(
        spec, data, spec.teacher.vocabulary_size, bare_words=spec.teacher.bare_words
    )
    tokenizer.save(folder / TOKENIZER)
    model = build(model_config(spec.teacher.shape, spec), tokenizer, seed=spec.seed)
    encoder = encoder_of(folder, spec)
    rows, validation = (
        sequences(encoder, split, tokenizer.pad)
        for split in (data.rows.train, data.rows.validation)
    )
    return model, run_training(
        context, model, NextToken(), rows, validation, training, folder, "teacher"
    )


def learned_tokenizer(
    spec: GenerationSpec, data: PreparedConversations, size: int, *, bare_words: bool = False
) -> Any:
    """A vocabulary of at most so many tokens, learned from the training rows."""
    from edgedistill.models.language.tokenizer import train_tokenizer

    texts = [spoken(turn) for row in data.rows.train for turn in row.turns]
    return train_tokenizer(texts, size, marks_of(spec.template), bare_words=bare_words)


def marks_of(template: str) -> Any:
    """The template's special tokens as those of a new vocabulary."""
    from edgedistill.models.language.tokenizer import Marks
    from edgedistill.tasks.generation.templates import TEMPLATES

    known = TEMPLATES.load(template)
    bos, behind = known.begin or None, known.assistant[1]
    end = min((t for t in known.special_tokens if t in behind), key=behind.index)
    others = tuple(t for t in known.special_tokens if t not in (bos, end))
    return Marks(bos, others, end)


def described(config: dict[str, Any]) -> str:
    """A network's numbers as JSON."""
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
             "intermediate_size", "vocab_size")  # fmt: skip
    return json.dumps({name: config[name] for name in names})


def encoder_of(folder: Path, spec: GenerationSpec) -> ConversationEncoder:
    """How conversations become ids for the models of a folder."""
    from tokenizers import Tokenizer

    return ConversationEncoder(
        Tokenizer.from_file(str(folder / TOKENIZER)),
        template_for(spec.template, folder),
        max_tokens=context_tokens(spec),
        learn_end=True,
    )


def model_config(shape: LanguageModelShape, spec: GenerationSpec) -> Any:
    """The shape as the models' room knows it."""
    from edgedistill.models.language.config import LanguageModelConfig

    return LanguageModelConfig(**shape.model_dump(), max_positions=context_tokens(spec))


def run_training(
    context: Context[GenerationSpec],
    model: Any,
    step: Any,
    rows: Any,
    validation: Any,
    training: LanguageTraining,
    folder: Path,
    stage: str,
    *,
    learning_rate: float = FROM_NOTHING,
    is_guarded: bool = True,
) -> dict[str, Any]:
    """The one loop, scored by minus the validation loss.

    Args:
        rows, validation: sets of `sequences`. folder: gets the checkpoints.
        learning_rate: the peak, where the task names none.
        is_guarded: whether a jump of the loss is undone; not where batches of two kinds take
            turns, whose losses are of two levels. One that is not a number stops in any case.
    """
    from edgedistill.train.loop import LoopConfig, train
    from edgedistill.train.spikes import SpikeGuard
    from edgedistill.train.tune.next_token import mean_loss

    result = train(
        model, step, rows,
        score=lambda trained: -mean_loss(trained, validation),
        config=LoopConfig(
            num_epochs=training.num_epochs,
            learning_rate=training.learning_rate or learning_rate,
            batch_size=training.batch_tokens,
            accumulation=training.accumulation,
            patience=training.patience,
            precision=training.precision,
            spike=SpikeGuard() if is_guarded else None,
            seed=context.spec.seed,
        ),
        checkpoints=folder / CHECKPOINTS, stage=stage, listener=context.listener,
    )  # fmt: skip
    return asdict(result)


def sequences(encoder: ConversationEncoder, rows: tuple[Conversation, ...], pad_id: int) -> Any:
    """The rows as a set to learn from."""
    from edgedistill.train.sequences import SequenceSet

    encoded = [encoder.encode(row) for row in rows]
    return SequenceSet.from_lists(
        [row.ids.tolist() for row in encoded], [row.learned.tolist() for row in encoded], pad_id
    )
