"""The two tasks of the generation benchmark: what is trained, and on which rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgedistill.core.files import write_text
from edgedistill.core.generation_task import METRICS, Metric
from edgedistill.models.language.config import LanguageModelConfig
from enja import write_enja
from snips import SCHEMA_FILE, write_snips

SPLITS = ("train", "validation", "test")
Shape = Mapping[str, int]


@dataclass(frozen=True)
class Bench:
    """One task: its rows, the shapes of both models, their training, and what it must reach.

    `share`: most of the teacher's parameters that the student may have. `kept`: least share of
    the teacher's score. `epochs`, `rates`: of teacher and student. `num_made`: prompts made from
    the rows', which the teacher answers.
    """

    name: str
    title: str
    write: Callable[..., None]
    output: Mapping[str, Any]
    vocabulary: int
    teacher: Shape
    student: Shape
    epochs: tuple[int, int]
    rates: tuple[float, float]
    share: float
    kept: float
    num_made: int = 0

    @property
    def metric(self) -> Metric:
        """What the task is scored by."""
        return METRICS[self.output["purpose"]]

    def parameters(self, shape: Shape) -> int:
        """Weights of a model with the task's vocabulary."""
        return LanguageModelConfig(**shape).num_parameters(self.vocabulary)

    def write_task(self, seed: int, work: Path, *, quick: bool) -> Path:
        """Write the rows and a task file, and return the file. `quick`: a cut, barely trained."""
        data = work / ("cut-" * quick + self.name)
        self.write(data, cut=quick)
        spec = self.spec(seed, quick=quick)
        path = data / f"{spec['name']}.yaml"
        write_text(path, yaml.safe_dump(spec, sort_keys=False))
        return path

    def spec(self, seed: int, *, quick: bool) -> dict[str, Any]:
        """The task file's content, for a folder with the rows."""
        epochs = (3, 3) if quick else self.epochs
        return {
            "name": f"{self.name}-{'quick-' * quick}{seed}",
            "kind": "generation",
            "description": self.title,
            "seed": seed,
            "input": {"max_tokens": 96, "languages": []},
            "output": {**self.output, **({"max_new_tokens": 48} if quick else {})},
            "boundary": {"out_of_bounds": {s: f"outside_{s}.jsonl" for s in SPLITS[1:]}},
            "data": {"files": {s: f"{s}.jsonl" for s in SPLITS}},
            "teacher": {
                "vocabulary_size": self.vocabulary,
                "bare_words": self.output["purpose"] == "json",
                "shape": dict(self.teacher),
                "training": _training(epochs[0], self.rates[0]),
            },
            "student": {
                "shape": dict(self.student),
                "training": _training(epochs[1], self.rates[1]),
                "weight_types": ["f16", "q8_0"] if quick else list(TYPES),
            },
            "distillation": {"augmentation": {"num_texts": 100 if quick else self.num_made}},
            "requirements": {"retention": self.kept - 0.02, "size_mb": 5.0, "valid": 0.95},
        }


#: Types of weights that every student is tried in.
TYPES = ("f16", "q8_0_f16", "q8_0", "q5_1", "q5_0", "q4_0")


def _training(num_epochs: int, rate: float) -> dict[str, Any]:
    return {
        "num_epochs": num_epochs, "learning_rate": rate, "patience": 4, "precision": "bf16",
    }  # fmt: skip


SNIPS = Bench(
    name="snips-json",
    title="SNIPS as JSON",
    write=write_snips,
    output={"purpose": "json", "schema_file": SCHEMA_FILE, "max_new_tokens": 128},
    vocabulary=1024,
    teacher={
        "hidden_size": 128, "num_layers": 5, "num_heads": 4, "num_kv_heads": 2,
        "intermediate_size": 352,
    },
    student={
        "hidden_size": 64, "num_layers": 3, "num_heads": 2, "num_kv_heads": 1,
        "intermediate_size": 160,
    },
    epochs=(9, 10),
    rates=(3e-3, 5e-3),
    share=0.2,
    kept=0.97,
    num_made=6000,
)  # fmt: skip

ENJA = Bench(
    name="english-japanese",
    title="English to Japanese",
    write=write_enja,
    output={"purpose": "translation", "max_new_tokens": 64},
    vocabulary=4096,
    teacher={
        "hidden_size": 160, "num_layers": 5, "num_heads": 4, "num_kv_heads": 2,
        "intermediate_size": 448,
    },
    student={
        "hidden_size": 64, "num_layers": 4, "num_heads": 2, "num_kv_heads": 1,
        "intermediate_size": 176,
    },
    epochs=(4, 5),
    rates=(3e-3, 5e-3),
    share=0.25,
    kept=0.95,
)  # fmt: skip
