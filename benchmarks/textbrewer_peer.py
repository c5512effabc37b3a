"""A student trained by TextBrewer (Yang et al. 2020, arXiv 2002.12620) as its documentation shows.

It is given what our loop has: network, texts, batch size, epochs, loss, optimiser and schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.core.protocols import ModelOutput
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.response import ResponseConfig
from edgedistill.train.loop import LoopConfig

#: `general`: its distiller for one teacher and one task, which runs the teacher in each step.
#: `cached`: its basic one, which keeps batches and the teacher's logits in memory.
Distiller = Literal["general", "cached"]
TexBatch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Peer:
    """How TextBrewer is run; `own_batches`: from a plain loader that shuffles texts and pads them
    to the longest of a batch, else the very batches of our loop."""

    distiller: Distiller
    own_batches: bool = True


class _OfBatch(nn.Module):
    """A model as TextBrewer calls it: with all that a batch holds."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        output: ModelOutput = self.model(input_ids, attention_mask)
        return output.logits


class _OurBatches:
    """The batches of our loop, epoch after epoch."""

    def __init__(self, examples: TrainingSet, config: LoopConfig) -> None:
        self.examples, self.config, self.epoch = examples, config, 0

    def __len__(self) -> int:
        return self.examples.num_batches(self.config.batch_size, self.config.seed, 0)

    def __iter__(self) -> Iterator[TexBatch]:
        config, device = self.config, torch.device("cpu")
        drawn = self.examples.batches(config.batch_size, config.seed, self.epoch, device)
        self.epoch += 1
        for batch in drawn:
            yield batch.input_ids, batch.attention_mask, batch.labels


def train_with_textbrewer(
    peer: Peer,
    teacher: nn.Module,
    student: nn.Module,
    examples: TrainingSet,
    loss: ResponseConfig,
    config: LoopConfig,
    score: Callable[[nn.Module], float],
    folder: Path,
) -> None:
    """Train `student` in place; it ends with the weights of the epoch that `score` prefers.

    Args:
        score: asked after each epoch, as our loop asks it.
        folder: for what it writes after each epoch.
    """
    from textbrewer import BasicDistiller, DistillationConfig, GeneralDistiller, TrainingConfig

    torch.manual_seed(config.seed)
    loader: Any = _OurBatches(examples, config)
    if peer.own_batches:
        loader = _loader(examples, config)
    optimizer = torch.optim.AdamW(_parameters(student, config), lr=config.learning_rate, fused=True)
    share = 1.0 - loss.hard_weight
    kind = GeneralDistiller if peer.distiller == "general" else BasicDistiller
    distiller = kind(
        TrainingConfig(device="cpu", output_dir=str(folder), log_dir=None),
        DistillationConfig(
            temperature=loss.temperature,
            # Its loss is without the square of the temperature.
            kd_loss_weight=share * loss.temperature**2,
            hard_label_weight=loss.hard_weight,
            is_caching_logits=peer.distiller == "cached",
        ),
        _OfBatch(teacher), _OfBatch(student), _teacher_says, _student_says,
    )  # fmt: skip
    best: dict[str, Any] = {"score": -math.inf}

    def after_epoch(model: _OfBatch, step: int) -> None:
        if (value := score(student)) > best["score"]:
            state = {name: t.detach().clone() for name, t in student.state_dict().items()}
            best.update(score=value, state=state)

    with distiller:
        distiller.train(
            optimizer, loader, num_epochs=config.num_epochs,
            scheduler_class=torch.optim.lr_scheduler.LambdaLR,
            scheduler_args={"lr_lambda": _schedule(config.num_epochs * len(loader), config)},
            max_grad_norm=config.max_grad_norm, callback=after_epoch,
        )  # fmt: skip
    student.load_state_dict(best["state"])
    student.eval()


def _teacher_says(batch: TexBatch, logits: Tensor) -> Mapping[str, Tensor]:
    return {"logits": logits}


def _student_says(batch: TexBatch, logits: Tensor) -> Mapping[str, Tensor]:
    return {"logits": logits, "losses": functional.cross_entropy(logits, batch[2])}


def _loader(examples: TrainingSet, config: LoopConfig) -> Any:
    def collate(rows: list[int]) -> TexBatch:
        ids, mask = examples.texts.padded(np.array(rows), examples.pad_id)
        labels = torch.from_numpy(examples.labels[rows])
        return torch.from_numpy(ids), torch.from_numpy(mask), labels

    return torch.utils.data.DataLoader(
        range(len(examples)),  # type: ignore[arg-type]
        batch_size=config.batch_size, shuffle=True, collate_fn=collate,
        generator=torch.Generator().manual_seed(config.seed),
    )  # fmt: skip


def _schedule(num_steps: int, config: LoopConfig) -> Callable[[int], float]:
    """Linear warm-up, then cosine to zero, as in our loop."""

    def share(step: int) -> float:
        done = (step + 1) / num_steps
        if done < config.warmup:
            return done / config.warmup
        return 0.5 * (
            1.0 + math.cos(math.pi * min(1.0, (done - config.warmup) / (1 - config.warmup)))
        )

    return share


def _parameters(model: nn.Module, config: LoopConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and tables do not."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    decays = [p for p in trained if p.ndim > 1 and id(p) not in tables]
    others = [p for p in trained if p.ndim <= 1 or id(p) in tables]
    return [
        {"params": decays, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
