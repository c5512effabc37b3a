"""Stage `teacher`: fine-tune the encoder, or take an already fine-tuned classifier."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.core.artefacts import Dataset
from edgedistill.core.errors import ModelError
from edgedistill.core.files import read_json, sha256_of, write_json
from edgedistill.core.teachers import ClassifierTeacher, TeacherSpec
from edgedistill.data.step_rows import step_files
from edgedistill.models.teachers.sources import TOKENIZER, WEIGHTS, resolve_teacher
from edgedistill.pipeline.context import Context
from edgedistill.pipeline.stages.dataset import PreparedData
from edgedistill.pipeline.store import StageResult
from edgedistill.tasks.classification import TextEncoder

CLASSIFIER = "classifier"
TRAINING = "training.json"
CHECKPOINTS = "checkpoints"
#: The settings that its weights depend on, beside those where they come from.
TRAINED_BY = set(ClassifierTeacher.model_fields) - {"source", "sha256"}
#: Power of the weight average (docs/decisions/14): the classifier that is kept holds, on average,
#: the weights of a fifth of the run ago.
AVERAGING = 3.0
#: Not all of `train`: how students are taught is nothing to the teacher.
ROOMS = (
    "train/averaging",
    "train/batches",
    "train/checkpoint",
    "train/loop",
    "train/replay",
    "train/spikes",
    "train/tune/anchored",
    "train/tune/elastic",
    "train/tune/supervised",
    "data/step_rows",
    "models/inference",
    "models/teachers",
    "tasks",
    "runtime/tokenizer",
    "pipeline/stages/teacher",
    "pipeline/stages/tuning",
)


@dataclass(frozen=True)
class Teacher:
    """The fine-tuned teacher on disk, its tokenizer, and the record of its training."""

    stage: StageResult
    encoder: TextEncoder
    training: dict[str, Any]
    source: Path
    weights_sha256: str

    def load(self, dataset: Dataset) -> Any:
        """The teacher as a module in evaluation mode."""
        from edgedistill.models.teachers.encoder import fine_tuned_classifier, load_classifier

        if (self.stage.folder / CLASSIFIER).exists():
            return load_classifier(self.stage.folder / CLASSIFIER, dataset.labels)
        return fine_tuned_classifier(self.source, dataset.labels).eval()


def prepare_teacher(
    context: Context,
    data: PreparedData,
    settings: ClassifierTeacher | None = None,
    name: str = "teacher",
) -> Teacher:
    """Fine-tune on the training split; the validation loss chooses the epoch.

    Args:
        settings: of a further teacher; left out, the task's `teacher`.
        name: of the stage.
    """
    spec, settings = context.spec, settings or context.spec.teacher
    source = resolve_teacher(settings.source, root=context.root, sha256=settings.sha256)
    digest = sha256_of(source / WEIGHTS)
    inputs = {
        "data": data.stage.fingerprint,
        "weights": digest,
        "tokenizer": sha256_of(source / TOKENIZER),
        "settings": settings.model_dump(mode="json", include=TRAINED_BY),
        "max_tokens": spec.input.max_tokens,
        "seed": spec.seed,
        "steps": {
            str(file): sha256_of(file)
            for file in step_files(settings.steps, context.root)
            if file.is_file()
        },
    }

    def compute(folder: Path) -> None:
        # Here, not above: that module needs what stands below.
        from edgedistill.pipeline.stages.tuning import Course, fine_tune

        shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
        encoder = TextEncoder(folder / TOKENIZER, spec.input.max_tokens)
        if settings.num_epochs == 0:
            record = _use_as_it_is(data.dataset, encoder, source)
        else:
            record = fine_tune(
                Course(context, settings, name, data.dataset, encoder), source, folder
            )
        write_json(folder / TRAINING, record)

    stage = context.store.stage(name, inputs, compute, rooms=ROOMS)
    encoder = TextEncoder(stage.folder / TOKENIZER, spec.input.max_tokens)
    return Teacher(stage, encoder, read_json(stage.folder / TRAINING), source, digest)


def hold_table(model: Any, settings: TeacherSpec) -> None:
    """Whether the token table moves, as the task says."""
    model.encoder.get_input_embeddings().weight.requires_grad_(settings.train_embeddings)


def train_teacher(
    context: Context[Any],
    settings: TeacherSpec,
    model: Any,
    step: Any,
    examples: Any,
    *,
    score: Any,
    folder: Path,
    name: str = "teacher",
    **changes: float,
) -> dict[str, Any]:
    """Fine-tune `model`, a head on an encoder, as the task says; the record of its training.

    Args:
        name: of the stage. changes: of the loop's other settings.
    """
    from edgedistill.train.loop import LoopConfig, train

    result = train(
        model,
        step,
        examples,
        score=score,
        config=LoopConfig(
            num_epochs=settings.num_epochs,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            patience=settings.patience,
            precision=settings.precision,
            averaging=AVERAGING,
            seed=context.spec.seed,
            **changes,  # type: ignore[arg-type]
        ),
        checkpoints=folder / CHECKPOINTS,
        stage=name,
        listener=context.listener,
    )
    shutil.rmtree(folder / CHECKPOINTS)
    return asdict(result)


def _use_as_it_is(dataset: Dataset, encoder: TextEncoder, source: Path) -> dict[str, Any]:
    from edgedistill.models.teachers.encoder import fine_tuned_classifier

    model = fine_tuned_classifier(source, dataset.labels).eval()
    accuracy = validation_accuracy(dataset, encoder)(model)
    if accuracy < 2.0 / len(dataset.labels):
        raise ModelError(
            f"the classifier is right on {accuracy:.1%} of the validation rows: no teacher",
            where="teacher.source",
            fix="check that it was fine-tuned on these labels, or set teacher.num_epochs > 0",
        )
    return {"best_score": accuracy, "best_epoch": 0, "history": [], "seconds": 0.0}


def validation_accuracy(dataset: Dataset, encoder: TextEncoder) -> Any:
    """A function that scores a model: its accuracy on the validation split."""
    from edgedistill.models.inference import model_outputs
    from edgedistill.tasks.classification import predicted

    texts, targets = encoder.encode(dataset.texts("validation")), dataset.targets("validation")

    def score(model: Any) -> float:
        logits, _ = model_outputs(model, texts, pad_id=encoder.pad_id)
        return float((predicted(logits) == targets).mean())

    return score
