"""A classifier on a pretrained encoder: masked mean of the last layer, then a linear head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.utils import logging as transformers_logging_untyped

from edgedistill.core.errors import ModelError
from edgedistill.core.files import write_json
from edgedistill.core.protocols import ModelOutput
from edgedistill.models.teachers.sources import OWN_CLASSIFIER, require_labels, require_tags

transformers_logging: Any = transformers_logging_untyped
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

ATTENTION = "eager"


def masked_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over real tokens: [batch, seq, dim], [batch, seq] -> [batch, dim]."""
    weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)


class EncoderClassifier(nn.Module):
    """Encoder, masked mean, dropout, linear head.

    forward: int64 [batch, seq] twice -> logits [batch, classes], features [batch, hidden].
    """

    def __init__(self, encoder: nn.Module, num_labels: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, num_labels)  # type: ignore[union-attr, arg-type]
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        features = masked_mean(self.states(input_ids, attention_mask), attention_mask)
        return ModelOutput(self.head(self.dropout(features)), features)

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last layer's states, [batch, seq, hidden]."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        states: Tensor = output.last_hidden_state
        return states


class EncoderTagger(EncoderClassifier):
    """Encoder, dropout, linear head on every token; features are the masked mean.

    forward: int64 [batch, seq] twice -> logits [batch, seq, tags], features [batch, hidden].
    """

    @property
    def num_tags(self) -> int:
        """Outputs that are for every token."""
        return self.head.out_features

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        states = self.states(input_ids, attention_mask)
        return ModelOutput(self.head(self.dropout(states)), masked_mean(states, attention_mask))


class EncoderLabellingTagger(EncoderTagger):
    """A tagger that labels whole texts too: its head's first `num_tags` outputs are for every
    token, the others for the values of its labels, of the masked mean.

    forward: int64 [batch, seq] twice -> logits [batch, seq, tags], features [batch, hidden],
    logits of the values [batch, values].
    """

    def __init__(
        self, encoder: nn.Module, num_labels: int, *, num_tags: int, dropout: float = 0.1
    ) -> None:
        super().__init__(encoder, num_labels, dropout=dropout)
        self._num_tags = num_tags

    @property
    def num_tags(self) -> int:
        """As given; the others are for whole texts."""
        return self._num_tags

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        states = self.states(input_ids, attention_mask)
        features = masked_mean(states, attention_mask)
        weight, bias, num = self.head.weight, self.head.bias, self.num_tags
        tags = nn.functional.linear(self.dropout(states), weight[:num], bias[:num])
        values = nn.functional.linear(self.dropout(features), weight[num:], bias[num:])
        return ModelOutput(tags, features, values)


#: Makes a model of an encoder and the number of its head's outputs.
Form: TypeAlias = Callable[[nn.Module, int], EncoderClassifier]


class FineTunedClassifier(nn.Module):
    """A sequence classifier of transformers, its logits as they are; features are the masked mean
    of the last hidden layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.encoder: nn.Module = model.base_model  # type: ignore[assignment]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True
        )
        return ModelOutput(output.logits, masked_mean(output.hidden_states[-1], attention_mask))


def new_classifier(
    folder: Path, num_labels: int, form: Form = EncoderClassifier
) -> EncoderClassifier:
    """The pretrained encoder of a folder with a new head, for texts or (`form`) for tokens."""
    encoder = _load(AutoModel, folder)
    # A pooler that no loss reaches would be trained by nothing and shipped for nothing.
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return form(encoder, num_labels)


def fine_tuned_classifier(folder: Path, labels: tuple[str, ...]) -> nn.Module:
    """An already fine-tuned classifier whose labels are those of the task, in the task's order.

    Raises:
        ModelError: its label names differ from the task's.
    """
    if (folder / OWN_CLASSIFIER).is_file():
        return load_classifier(folder, labels)
    require_labels(folder, labels)
    model = _load(AutoModelForSequenceClassification, folder, may_lack=())
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    order = torch.tensor([names.index(label) for label in labels])
    return _Reordered(FineTunedClassifier(model), order)


def fine_tuned_tagger(folder: Path, names: tuple[str, ...], form: Form) -> EncoderClassifier:
    """An already fine-tuned tagger whose tags are those of the task, in the task's order.

    Args:
        names: of all outputs; of one that was saved here, the values of its labels come last.
        form: what makes such a tagger of an encoder.

    Raises:
        ModelError: as `require_tags`; or its head is more than one layer on every token.
    """
    require_tags(folder, names)
    if (folder / OWN_CLASSIFIER).is_file():
        return load_classifier(folder, names, form)
    model = _load(AutoModelForTokenClassification, folder, may_lack=())
    head = getattr(model, "classifier", None)
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the head of this {type(model).__name__} is no single layer on every token",
            where=str(folder / "config.json"),
            fix="set teacher.num_epochs above 0: a new head is trained on its encoder",
        )
    own = [model.config.id2label[i] for i in range(model.config.num_labels)]
    order = [own.index(name) for name in names]
    tagger = form(model.base_model, len(names))
    tagger.head.weight = nn.Parameter(head.weight.detach()[order].clone())
    bias = torch.zeros(len(own)) if head.bias is None else head.bias.detach()
    tagger.head.bias = nn.Parameter(bias[order].clone())
    return tagger.eval()


class _Reordered(nn.Module):
    """A classifier with its outputs in another order."""

    def __init__(self, classifier: FineTunedClassifier, order: Tensor) -> None:
        super().__init__()
        self.classifier = classifier
        self.encoder = classifier.encoder
        self.register_buffer("order", order)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        output = self.classifier(input_ids, attention_mask)
        return ModelOutput(output.logits.index_select(1, self.order), output.features)


def save_classifier(model: EncoderClassifier, folder: Path, labels: tuple[str, ...]) -> None:
    """Write config, weights and labels; `load_classifier` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    model.encoder.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    write_json(folder / OWN_CLASSIFIER, {"labels": list(labels)})


def load_classifier(
    folder: Path, labels: tuple[str, ...], form: Form = EncoderClassifier
) -> EncoderClassifier:
    """Read what `save_classifier` wrote of a model of this form."""
    saved = json.loads((folder / OWN_CLASSIFIER).read_text(encoding="utf-8"))["labels"]
    if tuple(saved) != labels:
        raise ModelError("saved with other labels", where=str(folder / OWN_CLASSIFIER))
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    factory: Any = AutoModel
    encoder = factory.from_config(config, attn_implementation=ATTENTION)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    model = form(encoder, len(labels))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def _load(factory: Any, folder: Path, *, may_lack: tuple[str, ...] = ("pooler.",)) -> Any:
    """The model of a folder; weights that the file lacks are refused but `may_lack`'s."""
    try:
        # Fused attention is several times slower than plain products on short CPU batches.
        model, loading = factory.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True,
            attn_implementation=ATTENTION,
        )  # fmt: skip
    # RuntimeError: tensors of other shapes than the config says.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the model cannot be loaded ({type(error).__name__}: {error})",
            where=str(folder),
            fix="the folder must hold a model that transformers knows, as save_pretrained wrote it",
        ) from error
    # transformers would fill them with random numbers and say so in a warning at most.
    missing = sorted(n for n in loading["missing_keys"] if not n.startswith(may_lack))
    if missing:
        raise ModelError(
            f"the weights lack {len(missing)} of the model's tensors, {missing[0]} among them",
            where=str(folder),
            fix="save config and weights together (save_pretrained)",
        )
    return model
