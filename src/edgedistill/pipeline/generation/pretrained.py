"""Pretrained models of a generation task: found, checked before anything is trained, fine-tuned."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgedistill.core.conversation import Conversation
from edgedistill.core.errors import EdgeDistillError, MissingExtra, ModelError, SpecError
from edgedistill.core.generation_task import AdapterSpec, GenerationSpec, LanguageModelShape
from edgedistill.export.gguf_architecture import require_llama
from edgedistill.export.gguf_tokenizer import gguf_vocabulary
from edgedistill.models.language.cut import SliceConfig, kept_shape
from edgedistill.models.language.pretrained import (
    TOKENIZER_FILES,
    PretrainedLlama,
    read_pretrained,
    require_same_vocabulary,
)
from edgedistill.models.teachers.sources import resolve_language_model
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.generation.dataset import PreparedConversations
from edgedistill.pipeline.generation.teacher import (
    context_tokens,
    encoder_of,
    run_training,
    sequences,
)
from edgedistill.pipeline.generation.vocabulary import in_use
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.frames import frames_of, require_frames

#: Peak learning rates where a task names none: of adapters, and of pretrained weights themselves.
ADAPTERS, PRETRAINED = 2e-4, 5e-5
#: Validation rows on which merged adapters must answer as before.
NUM_GOLDEN = 32


@dataclass(frozen=True)
class Bases:
    """The pretrained models that a task names; None where it names none."""

    teacher: PretrainedLlama | None
    student: PretrainedLlama | None


def find_bases(spec: GenerationSpec, root: Path, rows: Sequence[Conversation]) -> Bases:
    """Find the pretrained models and refuse what could not be trained, distilled or shipped.

    Args:
        root: folder of the task file. rows: what will be learned.

    Raises:
        ModelError: no such model, another architecture, a pickle checkpoint, a context that is
            too short, a tokenizer that does not fit, vocabularies that differ.
        SpecError: a template that the tokenizer cannot write, a student larger than its teacher.
        MissingExtra: quantised adapters, and bitsandbytes is not installed.
    """
    if spec.teacher.is_new:
        _require_cut(spec, _as_shape(spec.teacher.shape))
        return Bases(None, None)
    adapters = spec.teacher.adapters
    if adapters is not None and adapters.quantised and find_spec("bitsandbytes") is None:
        raise MissingExtra("training adapters on a base of 4 bits", "qlora")
    teacher = _find(spec, spec.teacher.source, root, "teacher.source")
    encoder = encoder_of(teacher.folder, spec)
    require_frames(frames_of(encoder), rows)
    gguf_vocabulary(encoder.tokenizer, num_rows=teacher.num_rows, bos_id=None, eos_id=None)
    if spec.student.source is None:
        _require_cut(spec, teacher)
        return Bases(teacher, None)
    student = _find(spec, spec.student.source, root, "student.source")
    if spec.distillation.is_aligned:
        _require_own_tokenizer(spec, student, rows)
    else:
        require_same_vocabulary(teacher, student)
    return Bases(teacher, student)


def cut_of(shape: LanguageModelShape, num_layers: int) -> SliceConfig:
    """What a student of this shape keeps of a teacher: layers at even distances, the last too."""
    return SliceConfig(
        layers=tuple(
            max(0, (i + 1) * num_layers // shape.num_layers - 1) for i in range(shape.num_layers)
        ),
        hidden_size=shape.hidden_size,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        intermediate_size=shape.intermediate_size,
    )


def fine_tuned(
    context: Context[GenerationSpec],
    data: PreparedConversations,
    base: PretrainedLlama,
    folder: Path,
) -> tuple[Any, dict[str, Any]]:
    """The pretrained teacher after its training, and the record of it; its tokenizer in `folder`.

    Raises:
        ModelError: the weights cannot be read, merging the adapters changed the answers, or the
            vocabulary cannot be cut to what the task uses.
    """
    model, record = _trained(context, data, base, folder)
    if context.spec.teacher.vocabulary == "used":
        model, record["vocabulary"] = in_use(context.spec, data, model, folder)
    return model, record


def _trained(
    context: Context[GenerationSpec],
    data: PreparedConversations,
    base: PretrainedLlama,
    folder: Path,
) -> tuple[Any, dict[str, Any]]:
    from edgedistill.models.language.llama import load_model
    from edgedistill.models.language.tokenizer import LanguageTokenizer
    from edgedistill.train.tune.next_token import NextToken, mean_loss

    spec = context.spec
    for name in TOKENIZER_FILES:
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, folder / name)
    encoder = encoder_of(folder, spec)
    end = encoder.end_id()
    pad, bos = base.config.get("pad_token_id"), base.config.get("bos_token_id")
    tokenizer = LanguageTokenizer(
        encoder.tokenizer, bos=bos, end=end, pad=end if pad is None or pad < 0 else pad
    )
    rows, validation = (
        sequences(encoder, split, tokenizer.pad)
        for split in (data.rows.train, data.rows.validation)
    )
    model = marked(load_model(base.folder), tokenizer)
    if not spec.teacher.training.num_epochs:
        score = -mean_loss(model, validation)
        return model, {"best_score": score, "best_epoch": 0, "history": [], "seconds": 0.0}
    adapters = spec.teacher.adapters
    if adapters is None:
        return model, run_training(
            context, model, NextToken(), rows, validation, spec.teacher.training, folder,
            "teacher", learning_rate=PRETRAINED,
        )  # fmt: skip
    golden = [encoder.encode(row).ids.tolist() for row in data.rows.validation[:NUM_GOLDEN]]
    if adapters.quantised:
        model = marked(_in_4_bits(base, spec), tokenizer)
    adapted = _with_adapters(adapters, base, model, encoder, context)
    record = run_training(
        context, adapted, NextToken(), rows, validation, spec.teacher.training, folder, "teacher",
        learning_rate=ADAPTERS,
    )  # fmt: skip
    if adapters.quantised:
        adapted = _unpacked(adapted, base, tokenizer, partial(
            _with_adapters, adapters, base, encoder=encoder, context=context
        ))  # fmt: skip
    return _merged(adapted, golden), record


def marked(model: Any, tokenizer: Any) -> Any:
    """The model, its configuration naming the marks that the task's template writes."""
    model.config.bos_token_id, model.config.eos_token_id = tokenizer.bos, tokenizer.end
    model.config.pad_token_id = tokenizer.pad
    return model


def _with_adapters(
    asked: AdapterSpec,
    base: PretrainedLlama,
    model: Any,
    encoder: ConversationEncoder,
    context: Context[GenerationSpec],
) -> Any:
    """The model, frozen, with adapters as the task asks for them."""
    import torch

    from edgedistill.train.tune.lora import LoraConfig, with_adapters

    rank = asked.rank or LoraConfig.default(base.num_parameters).rank
    config = LoraConfig(
        rank=rank, alpha=asked.alpha or 2.0 * rank, dropout=asked.dropout, targets=asked.targets
    )
    if context.spec.teacher.training.precision == "bf16" and not asked.quantised:
        # The frozen weights alone: PEFT keeps the adapters of such a model in fp32.
        model = model.to(torch.bfloat16)
    return with_adapters(model, config, tokens=encoder.mark_ids(), seed=context.spec.seed)


def _in_4_bits(base: PretrainedLlama, spec: GenerationSpec) -> Any:
    import torch

    from edgedistill.train.tune.qlora import load_in_4_bits

    is_bf16 = spec.teacher.training.precision == "bf16"
    return load_in_4_bits(base.folder, compute=torch.bfloat16 if is_bf16 else torch.float32)


def _unpacked(trained: Any, base: PretrainedLlama, tokenizer: Any, adapt: Any) -> Any:
    """The same adapters on the base that they were trained beside, now as plain weights."""
    from edgedistill.models.language.llama import load_model
    from edgedistill.train.tune.qlora import take_adapters, unpack

    fresh = adapt(unpack(trained, marked(load_model(base.folder), tokenizer)))
    take_adapters(trained, fresh)
    return fresh


def _merged(adapted: Any, golden: Sequence[Sequence[int]]) -> Any:
    """The model with its adapters added into its weights, in fp32: the sum loses nothing there."""
    import torch

    from edgedistill.train.tune.lora import merge_checked

    merged: Any = merge_checked(adapted.float(), golden)
    merged.config.dtype = torch.float32
    return merged


def _find(spec: GenerationSpec, source: str, root: Path, key: str) -> PretrainedLlama:
    base = read_pretrained(resolve_language_model(source, root=root, key=key))
    try:
        require_llama(base.config)
    except EdgeDistillError as error:
        raise ModelError(error.what, where=key, fix=error.fix) from error
    if base.context < context_tokens(spec):
        raise ModelError(
            f"the model was made for {base.context:,} tokens, the task needs "
            f"{context_tokens(spec):,}: input.max_tokens, output.max_new_tokens and the marks",
            where=key,
            fix="lower input.max_tokens or output.max_new_tokens",
        )
    return base


def _require_own_tokenizer(
    spec: GenerationSpec, student: PretrainedLlama, rows: Sequence[Conversation]
) -> None:
    """Refuse a student's tokenizer that the template, the rows or the export would fail on."""
    try:
        encoder = encoder_of(student.folder, spec)
        require_frames(frames_of(encoder), rows)
        gguf_vocabulary(encoder.tokenizer, num_rows=student.num_rows, bos_id=None, eos_id=None)
    except EdgeDistillError as error:
        raise ModelError(error.what, where="student.source", fix=error.fix) from error


def _require_cut(spec: GenerationSpec, teacher: Any) -> None:
    if spec.student.initialise == "new":
        return
    try:
        kept_shape(teacher, cut_of(spec.student.shape, teacher.num_hidden_layers))
    except ModelError as error:
        raise SpecError(error.what, where="student.shape", fix=error.fix) from error


def _as_shape(shape: LanguageModelShape) -> Any:
    """A new network's numbers by the names of a config.json."""
    from types import SimpleNamespace

    return SimpleNamespace(
        num_hidden_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        intermediate_size=shape.intermediate_size,
    )
