"""What a running model holds in memory at its peak: weights, cache, and what it works in."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.sizing.cache import cache_bytes
from edgedistill.sizing.network import Network

#: Tokens of a prompt that go through the network at once, llama.cpp's `n_ubatch`.
CHUNK = 512
_FLOAT = 4


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak. The first two are exact; `working_bytes` is a model of the arithmetic."""

    weights_bytes: int
    cache_bytes: int
    working_bytes: int

    @property
    def peak_bytes(self) -> int:
        """All of it; the process and its libraries come on top."""
        return self.weights_bytes + self.cache_bytes + self.working_bytes


def peak(network: Network, weights_bytes: int, context: int, precision: str) -> Memory:
    """Memory for one sequence of `context` tokens.

    Raises:
        SpecError: an unknown precision of the cache.
    """
    cached = cache_bytes(network, context, precision)
    return Memory(weights_bytes, cached, working_bytes(network, context))


def working_bytes(network: Network, context: int) -> int:
    """Bytes of the largest step of a forward pass in F32, attention not fused.

    A decoder's prompt goes through in pieces of `CHUNK` tokens, an encoder's text at once. The
    steps: attention (the residual stream twice, queries, keys, values, a score for each head and
    earlier token, the mask), the feed-forward, and the logits, which runtimes reserve for every
    token of a piece. Against what llama.cpp reports it reserves: see tests/reference.
    """
    widths = network.widths
    tokens = min(CHUNK, context) if network.is_causal else context
    attention = 2 * widths.hidden + widths.attention + (widths.heads + 1) * context
    feed_forward = 2 * widths.hidden + widths.feed_forward
    logits = widths.hidden + widths.vocabulary
    return _FLOAT * tokens * max(attention, feed_forward, logits)
