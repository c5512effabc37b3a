"""A language model's ONNX file: what each tensor becomes there, and of which models one is written.

It follows `export/onnx_language.py` and the passes of `pipeline/generation/rounding.py`, which
write such files; the graph around the weights, some kB a layer, is left out.
"""

from __future__ import annotations

from collections import Counter

from edgedistill.core.weight_groups import EIGHT_BIT_GROUP, group_size, is_large
from edgedistill.core.weight_types import FOUR_BITS, MOST_ONNX_BYTES
from edgedistill.sizing.formats import FilledGroups, Format, Plain
from edgedistill.sizing.network import Network, Tensor
from edgedistill.sizing.stored import Stored, array

_FULL, _EIGHT_BITS = Plain("F32"), FilledGroups(8, EIGHT_BIT_GROUP)
_WRITTEN = "LlamaForCausalLM"
#: Matrices that read the same input stand as one.
_TOGETHER = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "units",
             "up_proj": "units"}  # fmt: skip
#: Its input comes from the attention, which takes no division over: AWQ stores one.
_DIVIDED = "o_proj"

ByTensor = tuple[tuple[Tensor, tuple[Stored, ...]], ...]


def stored_in_onnx(network: Network, kind: str) -> ByTensor:
    """The arrays of each tensor in a file of the type `kind`, one of `WeightType` but onnx_f32.

    AWQ is counted with its divisions; a layer that plain rounding serves best has none.
    """
    rows = Counter[str]()
    for tensor in network.tensors:
        rows[_matrix_of(tensor)] += tensor.shape[0]
    return tuple(
        (tensor, tuple(_stored(tensor, rows[_matrix_of(tensor)], kind)))
        for tensor in network.tensors
    )


def not_in_onnx(network: Network, kind: str) -> str | None:
    """Why no such file is written of the network, as an end of a sentence; None: one is."""
    if network.model_class != _WRITTEN or any(t.name.endswith(".bias") for t in network.tensors):
        return f"is written of a {_WRITTEN} without biases alone"
    whole = _num_bytes(stored_in_onnx(network, kind))
    if kind in FOUR_BITS:
        whole = sum(_num_bytes(((tensor, tuple(_wide(tensor))),)) for tensor in network.tensors)
    if whole > MOST_ONNX_BYTES:
        made = "is made of a file with layers in fp32, here" if kind in FOUR_BITS else "has"
        return f"{made} {whole / 1e6:,.0f} MB, and an ONNX file holds {MOST_ONNX_BYTES / 1e6:,.0f}"
    return None


def _stored(tensor: Tensor, num_rows: int, kind: str) -> list[Stored]:
    """`num_rows`: of the whole matrix that the tensor is a part of."""
    if kind not in FOUR_BITS or tensor.role not in ("attention", "mlp"):
        return _wide(tensor) if tensor.role == "vector" else _EIGHT_BITS(tensor)
    width = tensor.shape[-1]
    if not is_large(num_rows, width):
        return _FULL(tensor)
    found = FilledGroups(4, group_size(width))(tensor)
    if kind == "onnx_awq_int4" and _module(tensor) == _DIVIDED:
        found.append(array(f"{tensor.name}.inverse", "F32", (width,)))
    return found


def _wide(tensor: Tensor) -> list[Stored]:
    """As it stands before four bits are made of it."""
    of: Format = _EIGHT_BITS if tensor.role in ("embedding", "head") else _FULL
    return of(tensor)


def _matrix_of(tensor: Tensor) -> str:
    place = tensor.name.removesuffix(".weight").rpartition(".")[0]
    return f"{place}.{_TOGETHER.get(_module(tensor), _module(tensor))}"


def _module(tensor: Tensor) -> str:
    return tensor.name.removesuffix(".weight").rpartition(".")[2]


def _num_bytes(placed: ByTensor) -> int:
    return sum(each.size_bytes for _, stored in placed for each in stored)
