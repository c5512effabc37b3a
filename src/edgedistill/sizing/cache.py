"""The cache of keys and values: bytes by context and precision."""

from __future__ import annotations

from edgedistill.core.errors import SpecError
from edgedistill.export.gguf_types import type_for_width
from edgedistill.sizing.formats import BLOCK_BITS
from edgedistill.sizing.network import Network

PRECISIONS = ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""Types of llama.cpp's cache (`--cache-type-k`, `--cache-type-v`), by name."""


def cache_bytes(network: Network, context: int, precision: str) -> int:
    """Bytes of keys and values of one sequence of `context` tokens; 0 for an encoder.

    A layer with a window keeps no more tokens than that; runtimes that do not make use of it
    need more. A row that blocks do not divide is kept in F16.

    Raises:
        SpecError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise SpecError(
            f"unknown precision of the cache {precision!r}", where="--kv",
            fix=f"one of: {', '.join(PRECISIONS)}",
        )  # fmt: skip
    total = 0.0
    for layer in network.cache:
        tokens = context if layer.window is None else min(context, layer.window)
        bits = BLOCK_BITS[type_for_width(precision.upper(), layer.width)]
        total += 2 * tokens * layer.width * bits / 8
    return int(total)


def longest_context(network: Network, most_bytes: int, precision: str, *, most: int) -> int:
    """Most tokens, up to `most`, whose cache fits into `most_bytes`; 0: none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if cache_bytes(network, middle, precision) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return low
