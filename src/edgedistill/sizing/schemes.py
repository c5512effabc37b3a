"""Schemes: for each role of a tensor the format that it gets, and the file that holds all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import get_args

from edgedistill.core.errors import SpecError
from edgedistill.export.gguf_types import GGUF_TYPES, GgufType
from edgedistill.sizing.formats import (
    FOREIGN_BLOCKS,
    Awq,
    Format,
    Grouped,
    Palette,
    Plain,
    block_bytes,
)
from edgedistill.sizing.network import MATRIX_ROLES, Network, Role, Tensor
from edgedistill.sizing.onnx_language import not_in_onnx, stored_in_onnx
from edgedistill.sizing.stored import Stored, gguf_bytes, safetensors_header_bytes


@dataclass(frozen=True)
class Sized:
    """A network in a scheme.

    `by_tensor` in the checkpoint's order: arrays of one tensor together. `overhead_bytes`: what
    the file needs beside the numbers, as far as a config tells.
    """

    by_tensor: tuple[tuple[Tensor, tuple[Stored, ...]], ...]
    overhead_bytes: int

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return self.overhead_bytes + sum(bytes_of(stored) for _, stored in self.by_tensor)

    def by_role(self) -> dict[Role, int]:
        """Bytes by what the tensors are for."""
        total: dict[Role, int] = dict.fromkeys(get_args(Role), 0)
        for tensor, stored in self.by_tensor:
            total[tensor.role] += bytes_of(stored)
        return total


def bytes_of(stored: tuple[Stored, ...]) -> int:
    """Bytes of several arrays."""
    return sum(each.size_bytes for each in stored)


@dataclass(frozen=True)
class Scheme:
    """One way to store a whole network."""

    name: str
    note: str
    store: Callable[[Network], Sized]
    refuses: Callable[[Network], str | None] = lambda _: None
    """Why a network cannot be stored so, as the end of a sentence that begins with the scheme;
    None: it can."""


def _only_decoders(network: Network) -> str | None:
    """Encoders ship otherwise."""
    return None if network.is_causal else "is for models that write"


def _arrays(formats: Mapping[Role, Format], rest: Format) -> Callable[[Network], Sized]:
    """A safetensors file, each role in its format, all other tensors in `rest`."""

    def store(network: Network) -> Sized:
        by_tensor = tuple(
            (tensor, tuple(formats.get(tensor.role, rest)(tensor))) for tensor in network.tensors
        )
        arrays = [each for _, stored in by_tensor for each in stored]
        return Sized(by_tensor, safetensors_header_bytes(arrays))

    return store


def _all(matrices: Format, rest: Format) -> Callable[[Network], Sized]:
    return _arrays(dict.fromkeys(MATRIX_ROLES, matrices), rest)


#: Names of formats in a mix, and what else they stand for as schemes.
FORMATS: dict[str, Format] = {
    "fp32": Plain("F32"),
    "fp16": Plain("F16"),
    "bf16": Plain("BF16"),
    "int8": Grouped(8, None, "F32"),
    "int8_g32": Grouped(8, 32, "F32"),
    "int4_g32": Grouped(4, 32, "F16", zero_bits=4),
    "int4_g64": Grouped(4, 64, "F16", zero_bits=4),
    "int4_g128": Grouped(4, 128, "F16", zero_bits=4),
    "awq_g128": Awq(),
    "palette_256": Palette(8),
    "palette_16": Palette(4),
}
_NOTES = {
    "fp32": "as it is",
    "fp16": "half precision",
    "bf16": "half precision, fp32's range",
    "int8": "an F32 scale a row",
    "int8_g32": "F32 scale each 32",
    "int4_g32": "F16 scale and zero each 32",
    "int4_g64": "F16 scale and zero each 64",
    "int4_g128": "F16 scale and zero each 128",
    "awq_g128": "AutoAWQ; tables and head F16",
    "palette_256": "256 F32 values a matrix",
    "palette_16": "16 F32 values a matrix",
}
#: Precise where errors fall on every token, coarse where the weights are.
MIXED = "embedding=int8,position=int8,head=int8,attention=int8,mlp=int4_g32"


def _plain_schemes() -> dict[str, Scheme]:
    found = {}
    for name, stored in FORMATS.items():
        vectors = stored if isinstance(stored, Plain) else Plain("F32")
        store = _all(stored, vectors)
        if name == "awq_g128":
            store = _arrays({"attention": stored, "mlp": stored}, Plain("F16"))
            found[name] = Scheme(name, _NOTES[name], store, _only_decoders)
        else:
            found[name] = Scheme(name, _NOTES[name], store)
    return found


def _gguf(kind: GgufType | str) -> Callable[[Network], Sized]:
    """A GGUF file without its tokenizer; vectors are F32 there.

    Args:
        kind: formats as the exporter writes them; or a bare block format, with Q6_K where the
            logits are made. llama.cpp's own mixes give some tensors more.
    """

    def store(network: Network) -> Sized:
        placed = []
        for tensor in network.tensors:
            if len(tensor.shape) == 1 or tensor.role == "vector":
                placed.append((tensor, (Stored(tensor.name, "F32", tensor.shape,
                                               4 * tensor.num_weights),)))  # fmt: skip
                continue
            if isinstance(kind, str):
                wanted = "Q6_K" if tensor.name == network.head_name else kind
            else:
                wanted = kind.format_of(
                    _gguf_name(tensor), head=network.head_name or "",
                    num_blocks=network.num_blocks,
                )  # fmt: skip
            stored, size = block_bytes(wanted, tensor)
            placed.append((tensor, (Stored(tensor.name, stored, tensor.shape, size),)))
        arrays = [each for _, several in placed for each in several]
        numbers = sum(each.size_bytes for each in arrays)
        if factors := network.num_rotary_factors:
            arrays.append(Stored("rope_freqs.weight", "F32", (factors,), 4 * factors))
        return Sized(tuple(placed), gguf_bytes(arrays) - numbers)

    return store


def _gguf_name(tensor: Tensor) -> str:
    """The name as far as `format_of` looks at it: the head's own, or the first block's."""
    first = any(part in tensor.name for part in (".layers.0.", ".h.0.")) or tensor.name.startswith(
        ("layers.0.", "h.0.")
    )
    return f"blk.0.{tensor.name}" if first else tensor.name


#: Of the files in which a language model ships to ONNX Runtime: types of weights and their notes.
ONNX_NOTES = {
    "onnx_int8": "F32 scale each 32",
    "onnx_int4": "4 bits by 128, tables 8 by 32",
    "onnx_awq_int4": "as onnx_int4, AWQ's divisions",
    "onnx_gptq_int4": "as onnx_int4",
}


def _onnx(kind: str) -> Scheme:
    """The numbers of an ONNX file; the graph around them, some kB a layer, is left out."""
    return Scheme(
        kind, ONNX_NOTES[kind], lambda network: Sized(stored_in_onnx(network, kind), 0),
        partial(not_in_onnx, kind=kind),
    )  # fmt: skip


#: Before the names of GGUF types, some of which are also names of safetensors' types.
_GGUF = "gguf_"

SCHEMES: dict[str, Scheme] = (
    _plain_schemes()
    | {kind: _onnx(kind) for kind in ONNX_NOTES}
    | {
        f"{_GGUF}{name}": Scheme(
            f"{_GGUF}{name}", f"{each.bits:g} bits, the head {each.head}", _gguf(each),
            _only_decoders,
        )
        for name, each in GGUF_TYPES.items()
    }
    | {
        f"{_GGUF}{name.lower()}": Scheme(
            f"{_GGUF}{name.lower()}", f"{8 * size / width:.4g} bits; llama.cpp alone",
            _gguf(name), _only_decoders,
        )
        for name, (width, size) in FOREIGN_BLOCKS.items()
    }
)  # fmt: skip


def mixed(text: str, *, name: str | None = None) -> Scheme:
    """A scheme from `ROLE=FORMAT,…`; roles that are left out stay in fp16. `name`: its own.

    Raises:
        SpecError: an unknown role or format, or a role named twice.
    """
    chosen: dict[Role, Format] = {}
    for part in text.split(","):
        role, _, wanted = part.strip().partition("=")
        known = next((each for each in MATRIX_ROLES if each == role), None)
        if known is None or wanted not in FORMATS or known in chosen:
            raise SpecError(
                f"{part.strip()!r} in the mix {text!r}",
                where="--scheme",
                fix=f"ROLE=FORMAT, each role once. Roles: {', '.join(MATRIX_ROLES)}. Formats: "
                f"{', '.join(FORMATS)}",
            )
        chosen[known] = FORMATS[wanted]
    note = "mlp int4_g32, all else int8" if text == MIXED else "by role; the rest fp16"
    return Scheme(name or text, note, _arrays(chosen, Plain("F16")))


def scheme(name: str) -> Scheme:
    """A scheme by its name, `mixed`, or a mix of one's own; raises SpecError otherwise."""
    if name in SCHEMES:
        return SCHEMES[name]
    if name == "mixed":
        return mixed(MIXED, name="mixed")
    if "=" in name:
        return mixed(name)
    raise SpecError(
        f"unknown scheme {name!r}",
        where="--scheme",
        fix=f"one of: {', '.join([*SCHEMES, 'mixed'])}; or a mix, {MIXED!r}",
    )


def schemes_for(network: Network) -> list[Scheme]:
    """All schemes that are for such a network, the mix included."""
    return [each for each in [*SCHEMES.values(), scheme("mixed")] if each.refuses(network) is None]
