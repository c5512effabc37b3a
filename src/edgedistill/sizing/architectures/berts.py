"""BERT and the encoders that share its blocks: RoBERTa and its kin, ELECTRA, MPNet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgedistill.sizing.architectures.catalogue import (
    class_and_ending,
    num_labels,
    stored_as,
)
from edgedistill.sizing.architectures.decoders import MOST_BLOCKS
from edgedistill.sizing.config_file import ModelConfig
from edgedistill.sizing.network import Network, Role, Tensor, Widths, linear, norm

ENDINGS = (
    "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification",
    "ForQuestionAnswering", "Model",
)  # fmt: skip
#: What MPNet sorts distances into, where its config does not say.
_BUCKETS = 32


@dataclass(frozen=True)
class Traits:
    """How one architecture differs from BERT.

    `prefix`: its name before the names of tensors, where there is a head; `parts`: names of
    queries, keys, values and what leads back; `has_types`: a table of text types.
    """

    prefix: str
    attention: str = "attention.self."
    parts: tuple[str, str, str, str] = ("query", "key", "value", "attention.output.dense")
    norm: str = "attention.output.LayerNorm"
    has_types: bool = True
    pooled: tuple[str, ...] = ("Model", "ForPreTraining", "ForSequenceClassification")
    """Heads under which the first token's vector goes through one more matrix."""


_ROBERTA = Traits("roberta", pooled=("Model",))
TRAITS = {
    "bert": Traits("bert"),
    "camembert": _ROBERTA,
    "electra": Traits("electra", pooled=()),
    "mpnet": Traits(
        "mpnet", "attention.attn.", ("q", "k", "v", "attention.attn.o"), "attention.LayerNorm",
        has_types=False, pooled=("Model",),
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}  # fmt: skip


class _Bert:
    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.kind = str(config.values["model_type"])
        self.traits = TRAITS[self.kind]
        config.refuse("add_cross_attention", because="an encoder: cross-attention is not known")
        self.hidden = config.count("hidden_size")
        self.units = config.count("intermediate_size")
        self.blocks = config.count("num_hidden_layers", most=MOST_BLOCKS)
        self.heads = config.count("num_attention_heads")
        self.vocabulary = config.count("vocab_size")
        self.positions = config.count("max_position_embeddings", default=512)
        is_electra = self.kind == "electra"
        self.table = config.count("embedding_size", default=128) if is_electra else self.hidden

    def network(self) -> Network:
        endings = tuple(
            each for each in ENDINGS if each != "ForPreTraining" or self.kind in ("bert", "electra")
        )
        name, ending = class_and_ending(self.config, endings, default="Model")
        prefix = "" if ending == "Model" else f"{self.traits.prefix}."
        tensors = [*self._body(prefix), *self._head(ending)]
        if ending in self.traits.pooled:
            tensors += linear(f"{prefix}pooler.dense", self.hidden, self.hidden, "head", bias=True)
        masked = ending == "ForMaskedLM" or (ending, self.kind) == ("ForPreTraining", "bert")
        return Network(
            architecture=self.kind,
            model_class=name,
            tensors=tuple(tensors),
            cache=(),
            widths=Widths(self.hidden, 3 * self.hidden, self.heads, self.units,
                          self.vocabulary if masked else 0),
            max_positions=self.positions,
            num_blocks=self.blocks,
            head_name=self._tied_to(prefix) if masked else None,
            stored_as=stored_as(self.config),
        )  # fmt: skip

    def _tied_to(self, prefix: str) -> str:
        return f"{prefix}embeddings.word_embeddings.weight" if self._is_tied() else self._decoder()

    def _is_tied(self) -> bool:
        return self.config.flag("tie_word_embeddings", default=True)

    def _decoder(self) -> str:
        own = {"bert": "cls.predictions.decoder", "electra": "generator_lm_head"}
        return f"{own.get(self.kind, 'lm_head.decoder')}.weight"

    def _body(self, prefix: str) -> Iterator[Tensor]:
        tables: list[tuple[str, int, Role]] = [
            ("word", self.vocabulary, "embedding"),
            ("position", self.positions, "position"),
        ]
        if self.traits.has_types:
            tables.append(("token_type", self.config.count("type_vocab_size"), "position"))
        for name, rows, role in tables:
            yield Tensor(f"{prefix}embeddings.{name}_embeddings.weight", (rows, self.table), role)
        yield from norm(f"{prefix}embeddings.LayerNorm", self.table, bias=True)
        if self.table != self.hidden:
            yield from linear(f"{prefix}embeddings_project", self.hidden, self.table, "position",
                              bias=True)  # fmt: skip
        if self.kind == "mpnet":
            rows = self.config.count("relative_attention_num_buckets", default=_BUCKETS)
            name = f"{prefix}encoder.relative_attention_bias.weight"
            yield Tensor(name, (rows, self.heads), "position")
        for index in range(self.blocks):
            yield from self._block(f"{prefix}encoder.layer.{index}")

    def _block(self, place: str) -> Iterator[Tensor]:
        traits, hidden = self.traits, self.hidden
        *asked, back = traits.parts
        for part in asked:
            name = f"{place}.{traits.attention}{part}"
            yield from linear(name, hidden, hidden, "attention", bias=True)
        yield from linear(f"{place}.{back}", hidden, hidden, "attention", bias=True)
        yield from norm(f"{place}.{traits.norm}", hidden, bias=True)
        yield from linear(f"{place}.intermediate.dense", self.units, hidden, "mlp", bias=True)
        yield from linear(f"{place}.output.dense", hidden, self.units, "mlp", bias=True)
        yield from norm(f"{place}.output.LayerNorm", hidden, bias=True)

    def _head(self, ending: str) -> Iterator[Tensor]:
        hidden = self.hidden
        if ending == "ForMaskedLM":
            yield from self._masked()
        elif ending == "ForPreTraining" and self.kind == "bert":
            yield from self._masked()
            yield from linear("cls.seq_relationship", 2, hidden, "head", bias=True)
        elif ending == "ForPreTraining":
            place = "discriminator_predictions"
            yield from linear(f"{place}.dense", hidden, hidden, "head", bias=True)
            yield from linear(f"{place}.dense_prediction", 1, hidden, "head", bias=True)
        elif ending == "ForQuestionAnswering":
            yield from linear("qa_outputs", 2, hidden, "head", bias=True)
        elif ending != "Model":
            labels = num_labels(self.config)
            if ending == "ForTokenClassification" or self.kind == "bert":
                yield from linear("classifier", labels, hidden, "head", bias=True)
            else:
                yield from linear("classifier.dense", hidden, hidden, "head", bias=True)
                yield from linear("classifier.out_proj", labels, hidden, "head", bias=True)

    def _masked(self) -> Iterator[Tensor]:
        """What names the masked tokens: one more matrix, then the token table."""
        dense, scale, bias = {
            "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm",
                     "cls.predictions.bias"),
            "electra": ("generator_predictions.dense", "generator_predictions.LayerNorm",
                        "generator_lm_head.bias"),
        }.get(self.kind, ("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"))  # fmt: skip
        yield from linear(dense, self.table, self.hidden, "head", bias=True)
        yield from norm(scale, self.table, bias=True)
        yield Tensor(bias, (self.vocabulary,), "vector")
        if not self._is_tied():
            yield Tensor(self._decoder(), (self.vocabulary, self.table), "head")
            if self.kind != "electra":  # a head that is not the table has its bias a second time
                name = self._decoder().replace(".weight", ".bias")
                yield Tensor(name, (self.vocabulary,), "vector")


def network(config: ModelConfig) -> Network:
    """The network of a config whose `model_type` is in `TRAITS`."""
    return _Bert(config).network()
