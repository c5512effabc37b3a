"""Deep to shallow: within one network, the last layer teaches the ones before it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgedistill.core.errors import SpecError
from edgedistill.core.protocols import Signal
from edgedistill.core.strategies import ShallowSettings
from edgedistill.models.internals import NetworkShape
from edgedistill.train.distill.logit_losses import softened_kl
from edgedistill.train.distill.seen import Seen, wide


class Shallow:
    """Divergence of the answers of heads on shallower layers from those of the whole student.

    Be your own teacher, Zhang et al. 2019, arXiv 1905.08094, the second of its three losses: labels
    and hints are for other parts. The heads begin as copies of the student's own, read a layer's
    states as it does, and are not shipped. The whole student's answers are constants
    here: it is not pulled towards its shallower layers.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset()
    layers: ClassVar[tuple[tuple[int, int], ...]] = ()
    inside: ClassVar[bool] = True
    learned: nn.ModuleList | None = None

    def __init__(self, settings: ShallowSettings, student: NetworkShape) -> None:
        last = student.num_layers - 1
        if last == 0:
            raise SpecError(
                "the student has a single layer: there is no shallower one to teach",
                fix="choose a student of more layers, or leave shallow out",
            )
        self.taught = tuple(range(last)) if settings.layers is None else settings.layers
        if max(self.taught) >= last:
            raise SpecError(
                f"layers: {max(self.taught)} is not below the student's last layer, {last}",
                fix=f"layers of 0 to {last - 1}",
            )
        self.temperature = settings.temperature

    def attach(self, student: nn.Module) -> None:
        """Put a copy of the student's head on each layer that is taught."""
        whole: Any = student
        self.learned = nn.ModuleList(deepcopy(whole.head) for _ in self.taught)

    def terms(self, seen: Seen) -> Mapping[str, Tensor]:
        """`answers`: mean over the layers that are taught, and over rows."""
        assert self.learned is not None
        deepest = seen.logits.detach()
        values = []
        for layer, head in zip(self.taught, self.learned, strict=True):
            features = read_states(seen, wide(seen.student[Signal.STATES][layer]))
            values.append(softened_kl(head(features), deepest, self.temperature))
        return {"answers": torch.stack(values).mean()}


def read_states(seen: Seen, states: Tensor) -> Tensor:
    """What the student's head reads of states [b, s, h], [rows, h]: those of every token where it
    answers for tokens, else the mean of a text's."""
    if seen.output.logits.ndim == states.ndim:
        return seen.batch.rows(states)
    return text_mean(states, seen.batch.attention_mask)


def text_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of states [b, s, h] over the real tokens of each text: [b, h]; 0 where none is."""
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)
