"""What a generation run will take: arithmetic on characters and weights."""

from __future__ import annotations

from edgedistill.core.generation_task import GenerationSpec, LanguageModelShape
from edgedistill.pipeline.forecast import EFFICIENCY, FIXED_S, Forecast, matrix_rate

#: Characters a token, with a vocabulary of some thousand tokens learned from the rows.
CHARACTERS_A_TOKEN = 3.0
#: Small matrices, attention and padding: share of a plain product's rate that remains
#: (SNIPS, 4 layers of 192, one thread).
SMALL = 0.35


def forecast_generation(spec: GenerationSpec, num_characters: int, num_test: int) -> Forecast:
    """Forecast of a run on this machine.

    Args:
        num_characters: of all prompts and responses of the training split.
        num_test: test rows.
    """
    from edgedistill.models.language.config import LanguageModelConfig

    tokens = num_characters / CHARACTERS_A_TOKEN
    rate = matrix_rate() * EFFICIENCY * SMALL

    def parameters(shape: LanguageModelShape) -> int:
        config = LanguageModelConfig(**shape.model_dump())
        return config.num_parameters(spec.teacher.vocabulary_size)

    teacher, student = parameters(spec.teacher.shape), parameters(spec.student.shape)
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
        700e6
        + 16.0 * teacher
        + 40
        * spec.teacher.training.batch_tokens
        * (
            spec.teacher.shape.hidden_size * spec.teacher.shape.num_layers
            + spec.teacher.vocabulary_size
        )
    )
    disk = 40.0 * teacher + tokens * (6.0 * spec.distillation.top_k + 4) + 100e6
    return Forecast(seconds, int(memory), int(disk))
