"""The shape of a Llama, and how many parameters it has."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]

#: Feed-forward widths are rounded up to it: llama.cpp's K-quants take rows of 256 weights.
_FEED_FORWARD_STEP = 256


class LanguageModelConfig(BaseModel):
    """A Llama: rotary positions, RMS norms, gated feed-forward, grouped queries."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    hidden_size: Count = 256
    num_layers: Count = 6
    num_heads: Count = 4
    num_kv_heads: Count | None = None
    """Heads of keys and values; left out: as many as of queries."""
    intermediate_size: Count | None = None
    """Units of each feed-forward; left out: 8/3 of the hidden size, in steps of 256."""
    max_positions: Count = 512
    tied_embeddings: bool = True
    """The token table is the head, too: half the bytes of a small model's largest tensor."""

    @model_validator(mode="after")
    def _divides(self) -> LanguageModelConfig:
        if self.hidden_size % self.num_heads or self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over {self.num_heads} heads must be even and whole"
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(f"{self.num_heads} heads do not divide into {self.kv_heads} groups")
        return self

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def feed_forward(self) -> int:
        """Units of each feed-forward."""
        return self.intermediate_size or (
            -(-8 * self.hidden_size // (3 * _FEED_FORWARD_STEP)) * _FEED_FORWARD_STEP
        )

    def num_parameters(self, vocabulary_size: int) -> int:
        """Weights of the model, each tensor once."""
        hidden, head = self.hidden_size, self.hidden_size // self.num_heads
        attention = 2 * hidden * head * (self.num_heads + self.kv_heads)
        layer = attention + 3 * hidden * self.feed_forward + 2 * hidden
        tables = (1 if self.tied_embeddings else 2) * vocabulary_size * hidden
        return tables + self.num_layers * layer + hidden
