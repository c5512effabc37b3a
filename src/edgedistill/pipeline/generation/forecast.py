"""What a generation run will take: arithmetic on characters and weights."""

from __future__ import annotations

from pathlib import Path

from edgedistill.core.errors import StorageError
from edgedistill.core.files import require_room
from edgedistill.core.generation_task import GenerationSpec, LanguageModelShape
from edgedistill.pipeline.forecast import EFFICIENCY, FIXED_S, Forecast, matrix_rate
from edgedistill.pipeline.generation.pretrained import Bases

#: Characters a token, with a vocabulary of some thousand tokens learned from the rows.
CHARACTERS_A_TOKEN = 3.0
#: Small matrices, attention and padding: share of a plain product's rate that remains
#: (SNIPS, 4 layers of 192, one thread).
SMALL = 0.35


def forecast_generation(
    spec: GenerationSpec,
    num_characters: int,
    num_answered: int,
    num_test: int,
    bases: Bases,
    share_more: float,
) -> Forecast:
    """Forecast of a run on this machine.

    Args:
        num_characters: of all prompts and responses of the training split.
        num_answered: of the responses alone.
        num_test: test rows.
        bases: the pretrained models that the task names.
        share_more: prompts that the teacher answers beyond the training rows, per row of those.
    """
    from edgedistill.models.language.config import LanguageModelConfig

    tokens = num_characters / CHARACTERS_A_TOKEN
    rate = matrix_rate() * EFFICIENCY * SMALL

    def parameters(shape: LanguageModelShape, num_tokens: int) -> int:
        return LanguageModelConfig(**shape.model_dump()).num_parameters(num_tokens)

    base, student_base = bases.teacher, bases.student
    rows = base.num_rows if base else spec.teacher.vocabulary_size
    shape = spec.teacher.shape
    width, depth = (
        (base.hidden_size, base.num_hidden_layers)
        if base
        else (shape.hidden_size, shape.num_layers)
    )
    teacher = base.num_parameters if base else parameters(shape, rows)
    own = spec.student.vocabulary_size or rows
    student = student_base.num_parameters if student_base else parameters(spec.student.shape, own)
    # Of a frozen weight there is no gradient and no moment.
    moving = 4.0 if spec.teacher.adapters or not spec.teacher.training.num_epochs else 16.0
    taught = spec.teacher.training.num_epochs * 6.0 * teacher * tokens / rate
    learned = spec.student.training.num_epochs * 6.0 * student * tokens / rate
    more = 1.0 + share_more
    # A new token reads every weight once: memory, not arithmetic, sets its time.
    answered = num_test * spec.output.max_new_tokens / 4 * (teacher + 4 * student) / 4e9
    distillation = spec.distillation
    read = 2.0 * teacher * more * tokens / rate
    is_live = not distillation.is_cached and distillation.hard_weight < 1
    # The teacher reads the student's samples, which the student has written before.
    sampled = distillation.on_policy * (read + 4.0 * student * more * tokens / rate)
    taught_live = spec.student.training.num_epochs * ((read if is_live else 0.0) + sampled)
    share_asked = (distillation.texts != "rows") + share_more
    asked = share_asked * num_answered / CHARACTERS_A_TOKEN * teacher / 4e9
    seconds = {
        "teacher": taught,
        **({"teacher's texts": asked} if asked else {}),
        **({"transfer": read} if distillation.is_cached else {}),
        "student and control": (1.0 + more) * learned + taught_live,
        "measuring and report": FIXED_S + answered,
    }
    memory = (
        700e6 + moving * teacher + 40 * spec.teacher.training.batch_tokens * (width * depth + rows)
    )
    cached = forecast_cache_bytes(spec, num_answered, bases, share_more)
    disk = 40.0 * teacher + cached + 100e6
    return Forecast(seconds, int(memory), int(disk))


def forecast_cache_bytes(
    spec: GenerationSpec, num_answered: int, bases: Bases, share_more: float
) -> int:
    """Bytes of the teacher's cache for responses of so many characters, and as many more per
    response as the teacher answers prompts beyond the rows; 0 without a cache."""
    if not spec.distillation.is_cached:
        return 0
    most = (2 if spec.distillation.texts == "both" else 1) + share_more
    tokens = int(most * num_answered / CHARACTERS_A_TOKEN)
    rows = bases.teacher.num_rows if bases.teacher else spec.teacher.vocabulary_size
    return cache_bytes(spec, rows, tokens)


def cache_bytes(spec: GenerationSpec, vocabulary_size: int, num_tokens: int) -> int:
    """Bytes of the cache of so many learned tokens: see `models/teachers/topk_cache.py`."""
    k = min(spec.distillation.top_k, vocabulary_size)
    return num_tokens * (k * (4 if vocabulary_size <= 1 << 16 else 6) + 4)


def require_cache_room(folder: Path, size_bytes: int) -> None:
    """Raise StorageError, and say what would do without, unless the cache fits the disk."""
    try:
        require_room(folder, size_bytes)
    except StorageError as error:
        raise StorageError(
            f"the cache of the teacher's distributions does not fit: {error.what}",
            where=error.where,
            fix="set distillation.teacher: live, lower distillation.top_k, or free some space",
        ) from error
