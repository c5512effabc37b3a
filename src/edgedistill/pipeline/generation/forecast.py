"""What a generation run will take: arithmetic on characters and weights."""

from __future__ import annotations

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
    num_test: int,
    bases: Bases,
) -> Forecast:
    """Forecast of a run on this machine.

    Args:
        num_characters: of all prompts and responses of the training split.
        num_test: test rows.
        bases: the pretrained models that the task names.
    """
    from edgedistill.models.language.config import LanguageModelConfig

    tokens = num_characters / CHARACTERS_A_TOKEN
    rate = matrix_rate() * EFFICIENCY * SMALL

    def parameters(shape: LanguageModelShape) -> int:
        config = LanguageModelConfig(**shape.model_dump())
        return config.num_parameters(rows)

    base, student_base = bases.teacher, bases.student
    rows = base.num_rows if base else spec.teacher.vocabulary_size
    shape = spec.teacher.shape
    width, depth = (
        (base.hidden_size, base.num_hidden_layers)
        if base
        else (shape.hidden_size, shape.num_layers)
    )
    teacher = base.num_parameters if base else parameters(shape)
    student = student_base.num_parameters if student_base else parameters(spec.student.shape)
    # Of a frozen weight there is no gradient and no moment.
    moving = 4.0 if spec.teacher.adapters or not spec.teacher.training.num_epochs else 16.0
    taught = spec.teacher.training.num_epochs * 6.0 * teacher * tokens / rate
    learned = spec.student.training.num_epochs * 6.0 * student * tokens / rate
    # A new token reads every weight once: memory, not arithmetic, sets its time.
    answered = num_test * spec.output.max_new_tokens / 4 * (teacher + 4 * student) / 4e9
    seconds = {
        "teacher": taught,
        "transfer": 2.0 * teacher * tokens / rate,
        "student and control": 2.0 * learned,
        "measuring and report": FIXED_S + answered,
    }
    memory = (
        700e6 + moving * teacher + 40 * spec.teacher.training.batch_tokens * (width * depth + rows)
    )
    disk = 40.0 * teacher + tokens * (6.0 * spec.distillation.top_k + 4) + 100e6
    return Forecast(seconds, int(memory), int(disk))
