"""What a system has beside its model: adapters, a router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edgedistill.core.errors import SpecError
from edgedistill.sizing.network import Network, Tensor
from edgedistill.sizing.stored import array, safetensors_bytes

#: Types that adapters are stored in, by name.
ADAPTER_KINDS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
ALL_TARGETS = "all"


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) of one form.

    Args:
        rank: columns of the one matrix and rows of the other.
        targets: last names of the adapted layers (`q_proj`), or `all`: attention and mlp.
        count: how many of them, each a file.
        kind: a name of `ADAPTER_KINDS`.
    """

    rank: int
    targets: tuple[str, ...] = (ALL_TARGETS,)
    count: int = 1
    kind: str = "fp16"


@dataclass(frozen=True)
class Part:
    """One file, or several alike, of a system."""

    name: str
    note: str
    num_parameters: int
    size_bytes: int


def adapters(network: Network, wanted: Adapters) -> Part:
    """The adapters' files, as PEFT writes them.

    Raises:
        SpecError: a target that no layer is named by, an unknown type, a rank or count below 1.
    """
    if wanted.kind not in ADAPTER_KINDS:
        raise SpecError(
            f"unknown type of adapters {wanted.kind!r}", where="--lora-format",
            fix=f"one of: {', '.join(ADAPTER_KINDS)}",
        )  # fmt: skip
    if wanted.rank < 1 or wanted.count < 1:
        raise SpecError("a rank and a number of adapters are 1 or more", where="--lora-rank")
    adapted = [(tensor, _layer(tensor)) for tensor in network.tensors if _is_layer(tensor)]
    chosen = _chosen(adapted, wanted.targets)
    kind = ADAPTER_KINDS[wanted.kind]
    arrays = []
    for tensor in chosen:
        rows, columns = tensor.shape
        name = f"base_model.model.{tensor.name.removesuffix('.weight')}"
        arrays += [
            array(f"{name}.lora_A.weight", kind, (wanted.rank, columns)),
            array(f"{name}.lora_B.weight", kind, (rows, wanted.rank)),
        ]
    parameters = sum(wanted.rank * sum(tensor.shape) for tensor in chosen)
    return Part(
        "adapters", f"{wanted.count} × rank {wanted.rank}, {wanted.kind}",
        wanted.count * parameters, wanted.count * safetensors_bytes(arrays),
    )  # fmt: skip


def _is_layer(tensor: Tensor) -> bool:
    return len(tensor.shape) == 2 and tensor.role in ("attention", "mlp", "head")


def _layer(tensor: Tensor) -> str:
    return tensor.name.removesuffix(".weight").rsplit(".", 1)[-1]


def _chosen(
    adapted: Sequence[tuple[Tensor, str]], targets: tuple[str, ...]
) -> list[Tensor]:  # fmt: skip
    if targets == (ALL_TARGETS,):
        return [tensor for tensor, _ in adapted if tensor.role != "head"]
    names = {name for _, name in adapted}
    if strange := [target for target in targets if target not in names]:
        raise SpecError(
            f"no layer is named {', '.join(strange)}", where="--lora-targets",
            fix=f"all, or of: {', '.join(sorted(names))}",
        )  # fmt: skip
    return [tensor for tensor, name in adapted if name in targets]


def router(widths: Sequence[int]) -> Part:
    """A feed-forward network from the first width to the last, with biases, in F32.

    Raises:
        SpecError: fewer than two widths, or one below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise SpecError(
            f"a router of widths {', '.join(map(str, widths))}", where="--router",
            fix="two widths or more, such as 768,256,32",
        )  # fmt: skip
    arrays = []
    for index, (into, out) in enumerate(pairwise(widths)):
        arrays += [
            array(f"{index}.weight", "F32", (out, into)),
            array(f"{index}.bias", "F32", (out,)),
        ]
    parameters = sum(each.size_bytes for each in arrays) // 4
    shape = " → ".join(map(str, widths))
    return Part("router", f"{shape}, fp32", parameters, safetensors_bytes(arrays))
