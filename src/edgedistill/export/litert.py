"""Export to LiteRT: one file with a signature for each of some lengths, its weights once.

Every signature has the same weights; `bits` rounds those of matrix products and tables, and the
runtime rounds activations, token by token, as they come.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from edgedistill.core.errors import CannotApply, MissingExtra
from edgedistill.core.files import write_bytes
from edgedistill.runtime.litert_session import SIGNATURE
from edgedistill.runtime.session import INPUTS, LABEL_LOGITS, OUTPUTS

#: Shares of the texts that a length is made for, beside the longest that may come.
SHARES = (0.5, 0.9)


def lengths_for(counts: Sequence[int] | np.ndarray, most: int) -> tuple[int, ...]:
    """Lengths that waste little on texts of so many tokens: half of them fit into the first, nine
    of ten into the next, all that may come into the last.

    Args:
        counts: tokens of each of some texts, at least one. most: tokens that the network may read.
    """
    found = np.quantile(np.asarray(counts), SHARES, method="higher")
    return tuple(sorted({min(int(each), most) for each in found} | {most}))


class _Named(nn.Module):
    """The model with named outputs, for the converter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        output = self.model(input_ids, attention_mask)
        found = dict(zip(OUTPUTS, (output.logits, output.features), strict=True))
        return found if output.label_logits is None else found | {LABEL_LOGITS: output.label_logits}


def write_litert(model: nn.Module, *, lengths: Sequence[int], to: Path) -> Path:
    """Convert `model` (left in evaluation mode) in full precision to the file `to`.

    Raises:
        MissingExtra: the converter is not installed.
        CannotApply: the converter lacks an operator of this network.
        StorageError: the file cannot be written.
    """
    convert = _converter()
    named = _Named(model.cpu()).eval()
    with _quietly():
        begun: Any = convert
        for length in lengths:
            ones = {name: torch.ones(1, length, dtype=torch.int32) for name in INPUTS}
            begun = begun.signature(f"{SIGNATURE}{length}", named, sample_kwargs=ones)
        try:
            # As bytes: where it writes the file itself, a full disk ends the process.
            content = begun.convert().model_content()
        except Exception as error:  # the converter's and MLIR's exceptions share no base but this
            told = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise CannotApply(
                f"the converter to LiteRT fails on this network: {told}",
                fix="leave out compress.runtime, or take another student",
            ) from error
    write_bytes(to, content)
    return to


def round_litert(full: Path, *, bits: Literal[4, 8], to: Path) -> Path:
    """Round the weights of a file in full precision; raises MissingExtra without the quantiser."""
    try:
        from ai_edge_quantizer import quantizer, recipe
    except ImportError as error:
        raise MissingExtra("rounding for LiteRT", "litert-export") from error
    rounded = recipe.dynamic_wi8_afp32() if bits == 8 else recipe.dynamic_wi4_afp32()
    with _quietly():
        work = quantizer.Quantizer(str(full))
        work.load_quantization_recipe(rounded)
        write_bytes(to, bytes(work.quantize().quantized_model))
    return to


def _converter() -> Any:
    try:
        with _quietly():
            import litert_torch
    except ImportError as error:
        raise MissingExtra("exporting to LiteRT", "litert-export") from error
    return litert_torch


@contextlib.contextmanager
def _quietly() -> Any:
    """Without the progress and the warnings of what is not ours."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
