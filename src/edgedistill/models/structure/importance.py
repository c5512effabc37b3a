"""How much heads, neurons and channels matter: by gates on what they pass on.

A gate is a factor 1 on everything that a structure passes on. At 0 the structure is gone; how the
loss changes with it near 1 tells what that would cost, to first order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.core.structural import Importance
from edgedistill.models.structure.given import Evidence, EvidenceBatch
from edgedistill.models.structure.surgery import head_size
from edgedistill.models.students.bert_blocks import EncoderLayer, TransformerStudent


@dataclass(frozen=True)
class Site:
    """Where structures of one kind pass something on: the input of `modules`, or their output.

    `num` structures of `width` neighbouring units each. `readers`: weights ``[out, units]`` that
    read the units. `norms`: of the weights of each structure, ``[num]``.
    """

    modules: tuple[nn.Module, ...]
    is_output: bool
    num: int
    width: int
    readers: tuple[Tensor, ...]
    norms: Tensor


def head_site(layer: EncoderLayer) -> Site:
    """The heads of a layer: what attention mixed, before it is projected."""
    size, inner = head_size(layer), layer.attended.in_features
    values = layer.qkv.weight.detach()[2 * inner :]
    norms = group_norms(values, layer.attended.weight.detach(), size)
    return Site(
        (layer.attended,), False, layer.heads, size, (layer.attended.weight.detach(),), norms
    )


def neuron_site(layer: EncoderLayer) -> Site:
    """The feed-forward neurons of a layer, after their activation."""
    up, down = layer.up.weight.detach(), layer.down.weight.detach()
    return Site((layer.down,), False, len(up), 1, (down,), group_norms(up, down, 1))


def channel_site(network: TransformerStudent) -> Site:
    """The channels of the states: what every layer norm puts out."""
    layers = network.encoder_layers()
    norms: list[nn.Module] = [network.embedding.norm]
    readers = [reader.weight.detach() for reader in network.reading_layers().values()]
    written = [network.embedding.tokens.weight.detach()]
    for layer in layers:
        norms += [layer.attention_norm, layer.output_norm]
        readers += [layer.qkv.weight.detach(), layer.up.weight.detach()]
        written += [layer.attended.weight.detach().T, layer.down.weight.detach().T]
    # Each matrix counts alike, whatever its norm.
    shares = [m.square().sum(0) / m.square().sum() for m in (*readers, *written)]
    total = torch.stack(shares).sum(0).sqrt()
    return Site(tuple(norms), True, len(total), 1, tuple(readers), total)


def group_norms(into: Tensor, out: Tensor, size: int) -> Tensor:
    """Norm of the weights into times that of the weights out of each group of ``size`` units.

    Args:
        into: ``[units, …]``. out: ``[…, units]``.
    """
    ingoing = into.reshape(into.shape[0] // size, -1)
    outgoing = out.T.reshape(out.shape[1] // size, -1)
    return ingoing.square().sum(1).sqrt() * outgoing.square().sum(1).sqrt()


def largest(scores: Tensor, num: int | None) -> Tensor:
    """Ids of the ``num`` largest, ascending; all where ``num`` is left out; of equals the first."""
    order = scores.sort(descending=True, stable=True).indices
    return order[: min(num or len(scores), len(scores))].sort().values


def importances(
    network: TransformerStudent, sites: Sequence[Site], evidence: Evidence, kind: Importance
) -> list[Tensor]:
    """Importance of every structure of the sites, float32 ``[num]`` each, none below 0.

    `taylor`: the squared derivative of the loss for the structure's gate, averaged over batches:
    the squared first-order change of the loss without it (Molchanov et al. 2019, arXiv 1906.10771,
    equation 8, with the gates of its section 3.2). `activation`: root mean square of what it passes
    on, by the norm of the weights that read it. `magnitude`: `Site.norms`.
    """
    if kind == "magnitude":
        return [site.norms for site in sites]
    measure = _taylor if kind == "taylor" else _used
    return measure(network, sites, evidence)


def gate_gradients(network: nn.Module, sites: Sequence[Site], batch: EvidenceBatch) -> list[Tensor]:
    """Derivatives of the loss of a batch for every gate, at 1; ``[num]`` a site."""
    gates = [torch.ones(site.num, requires_grad=True) for site in sites]
    with gated(sites, gates):
        loss = batch.loss(network(batch.ids, batch.mask))
    return list(torch.autograd.grad(loss, gates))


def _taylor(network: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
    network.eval()
    totals, num = [torch.zeros(site.num) for site in sites], 0
    for batch in evidence.batches():
        for total, gradient in zip(totals, gate_gradients(network, sites, batch), strict=True):
            total += len(batch.ids) * gradient.square()
        num += len(batch.ids)
    return [total / num for total in totals]


@torch.no_grad()
def _used(network: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
    network.eval()
    sums = [torch.zeros(site.num * site.width) for site in sites]
    for batch in evidence.batches():
        with _seen(sites, batch.mask.bool(), sums):
            network(batch.ids, batch.mask)
    num = len(evidence.texts.ids)
    found = []
    for site, total in zip(sites, sums, strict=True):
        read = torch.stack([reader.square().sum(0) for reader in site.readers]).sum(0)
        squared = total / (num * len(site.modules)) * read
        found.append(squared.reshape(site.num, site.width).sum(1).sqrt())
    return found


@contextmanager
def gated(sites: Sequence[Site], gates: Sequence[Tensor]) -> Iterator[None]:
    """While it lasts, what the sites pass on is multiplied by their gates, ``[num]`` each."""

    def through(gate: Tensor, width: int) -> Any:
        return lambda states: states * gate.repeat_interleave(width)

    with _hooked([
        (module, site.is_output, through(gate, site.width))
        for site, gate in zip(sites, gates, strict=True) for module in site.modules
    ]):  # fmt: skip
        yield


@contextmanager
def _seen(sites: Sequence[Site], mask: Tensor, sums: Sequence[Tensor]) -> Iterator[None]:
    """While it lasts, squares of what the sites pass on for real tokens are added to `sums`."""

    def adds(total: Tensor) -> Any:
        def look(states: Tensor) -> None:
            total.add_(states[mask].square().sum(0))

        return look

    with _hooked([
        (module, site.is_output, adds(total))
        for site, total in zip(sites, sums, strict=True) for module in site.modules
    ]):  # fmt: skip
        yield


@contextmanager
def _hooked(places: Sequence[tuple[nn.Module, bool, Any]]) -> Iterator[None]:
    """Each function on the output or input of its module; what it returns takes its place."""
    handles = []
    for module, is_output, function in places:
        hook = partial(_pass, is_output, function)
        add = module.register_forward_hook if is_output else module.register_forward_pre_hook
        handles.append(add(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pass(is_output: bool, function: Any, module: nn.Module, *states: Any) -> Any:
    """A hook's form of a function: of the output, which comes last, or of the one input."""
    return function(states[-1] if is_output else states[0][0])
