"""Structural passes against masks, brute force and numpy: what is gone was worth nothing more."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgedistill.core.structural import (
    DropLayersSettings,
    FactoriseEmbeddingsSettings,
    FactoriseLinearSettings,
    PruneEncoderSettings,
    PruneHeadsSettings,
    PruneHiddenSettings,
    PruneNeuronsSettings,
    PruneVocabularySettings,
)
from edgedistill.models.structure.drop_layers import drop_layers, layer_states
from edgedistill.models.structure.factorise_embeddings import factorise_embeddings
from edgedistill.models.structure.factorise_linear import factorise_linear
from edgedistill.models.structure.importance import head_site, importances, neuron_site
from edgedistill.models.structure.low_rank import LowRankLinear
from edgedistill.models.structure.prune_encoder import prune_encoder
from edgedistill.models.structure.prune_heads import prune_heads
from edgedistill.models.structure.prune_hidden import keep_channels, prune_hidden
from edgedistill.models.structure.prune_neurons import prune_neurons
from edgedistill.models.structure.prune_vocabulary import prune_vocabulary
from edgedistill.models.structure.surgery import head_size
from edgedistill.models.students.bert_blocks import (
    LabellingTagger,
    TransformerStudent,
    TransformerTagger,
)
from small_network import KINDS, Small, in_a_row, small


@pytest.fixture(scope="module", params=KINDS)
def bert(request: pytest.FixtureRequest) -> Small:
    return small("bert", request.param)


def answers(network: TransformerStudent, of: Small) -> Tensor:
    return of.said(network)


def test_pruned_heads_and_neurons_equal_masked_ones(bert: Small) -> None:
    """Masked by hand: what reads the structures of least importance reads zeros."""
    network, evidence = bert.network, bert.given.evidence
    pruned = prune_heads(network, PruneHeadsSettings(share=0.5), bert.given)
    pruned = prune_neurons(pruned, PruneNeuronsSettings(share=0.4), bert.given)
    masked = copy.deepcopy(network)
    layers = masked.encoder_layers()
    for layer, scores in zip(
        layers, importances(masked, [head_site(x) for x in layers], evidence, "taylor"), strict=True
    ):
        for head in scores.argsort()[:2].tolist():
            size = head_size(layer)
            layer.attended.weight.data[:, head * size : (head + 1) * size] = 0
    for layer, scores in zip(
        layers, importances(masked, [neuron_site(x) for x in layers], evidence, "taylor"),
        strict=True,
    ):  # fmt: skip
        layer.down.weight.data[:, scores.argsort()[:16]] = 0
    torch.testing.assert_close(answers(pruned, bert), answers(masked, bert), rtol=0, atol=1e-5)
    assert not torch.allclose(answers(pruned, bert), answers(network, bert), atol=1e-2)
    # The structure is gone, not zero.
    assert {(x.heads, x.up.out_features) for x in pruned.encoder_layers()} == {(2, 24)}


def masked_forward(network: TransformerStudent, ids: Tensor, mask: Tensor, on: Tensor) -> Tensor:
    """The network written out, with channels masked wherever states are; norms over the rest."""

    def norm(states: Tensor, by: torch.nn.LayerNorm) -> Tensor:
        num = on.sum()
        mean = (states * on).sum(-1, keepdim=True) / num
        centred = (states - mean) * on
        deviation = (centred.square().sum(-1, keepdim=True) / num + by.eps).sqrt()
        return (centred / deviation * by.weight + by.bias) * on

    table = network.embedding
    rows = table.vocabulary_map[ids].long()
    states = norm(table.tokens.weight[rows] + table.positions[: ids.shape[1]], table.norm)
    for layer in network.encoder_layers():
        query, key, value = (
            part.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for part in layer.qkv(states).chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e9)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        states = norm(states + layer.attended(mixed), layer.attention_norm)
        inner = F.gelu(layer.up(states))
        states = norm(states + layer.down(inner), layer.output_norm)
    weights = mask[..., None].float()
    mean = (states * weights).sum(1) / weights.sum(1)
    if not isinstance(network, TransformerTagger):
        return network.head(mean).flatten()
    parts = [network.head(states)[mask.bool()].flatten()]
    if isinstance(network, LabellingTagger):
        parts.append(network.label_head(mean).flatten())
    return torch.cat(parts)


def test_pruned_channels_equal_masked_ones(bert: Small) -> None:
    ids, mask = bert.batch()
    with torch.no_grad():
        whole = masked_forward(bert.network, ids, mask, torch.ones(24))
        torch.testing.assert_close(whole, answers(bert.network, bert), rtol=0, atol=1e-5)
        channels = torch.tensor([0, 1, 2, 5, 7, 8, 11, 12, 13, 17, 20, 23])
        on = torch.zeros(24).index_fill(0, channels, 1.0)
        masked = masked_forward(bert.network, ids, mask, on)
    pruned = keep_channels(bert.network, channels)
    torch.testing.assert_close(answers(pruned, bert), masked, rtol=0, atol=1e-5)
    assert pruned.embedding.tokens.weight.shape[1] == 12


@pytest.mark.parametrize("importance", ["taylor", "magnitude", "activation"])
def test_channels_are_chosen_by_what_writes_and_reads_them(bert: Small, importance: str) -> None:
    # A channel that nothing writes to, and whose states are 0, is the first to go.
    network = copy.deepcopy(bert.network)
    dead = 6
    for matrix in (network.embedding.tokens.weight, network.embedding.positions):
        matrix.data[:, dead] = 0
    for reader in network.reading_layers().values():
        reader.weight.data[:, dead] = 0
    norms = [network.embedding.norm]
    for layer in network.encoder_layers():
        layer.attended.weight.data[dead], layer.down.weight.data[dead] = 0, 0
        layer.qkv.weight.data[:, dead], layer.up.weight.data[:, dead] = 0, 0
        norms += [layer.attention_norm, layer.output_norm]
    for norm in norms:
        norm.weight.data[dead], norm.bias.data[dead] = 0, 0
    settings = PruneHiddenSettings(share=1 / 24, importance=importance)  # type: ignore[arg-type]
    pruned = prune_hidden(network, settings, bert.given)
    others = [channel for channel in range(24) if channel != dead]
    pruned_readers = pruned.reading_layers()
    for name, reader in network.reading_layers().items():
        assert torch.equal(pruned_readers[name].weight, reader.weight[:, others])


def test_kept_tokens_are_read_as_before_and_others_as_their_neighbour(bert: Small) -> None:
    pruned = prune_vocabulary(bert.network, PruneVocabularySettings(), bert.given)
    assert pruned.embedding.tokens.num_embeddings == 100
    torch.testing.assert_close(answers(pruned, bert), answers(bert.network, bert))
    # Token 110 has no row: it is read as that of the kept words whose vector is most alike.
    table = bert.network.embedding.tokens.weight.detach().numpy()
    words = table[4:100] / np.linalg.norm(table[4:100], axis=1, keepdims=True)
    nearest = 4 + int((words @ table[110]).argmax())
    with torch.no_grad():
        one, other = (pruned(torch.tensor([[5, i]]), torch.ones(1, 2)).logits
                      for i in (110, nearest))  # fmt: skip
    assert torch.equal(one, other)


@pytest.mark.parametrize("by", ["cosine", "cka"])
def test_the_layer_that_does_nothing_is_dropped_first(bert: Small, by: str) -> None:
    network = copy.deepcopy(bert.network)
    idle = network.encoder_layers()[2]
    # What it adds is next to nothing, and its norms only norm what is normed.
    for part in (idle.attended, idle.down):
        part.weight.data *= 1e-3
        part.bias.data.zero_()
    before = network.encoder_layers()[1].output_norm
    for norm in (before, idle.attention_norm, idle.output_norm):
        norm.weight.data.fill_(1.0)
        norm.bias.data.zero_()
    shorter = drop_layers(network, DropLayersSettings(share=0.25, by=by), bert.given)  # type: ignore[arg-type]
    assert len(shorter.layers) == 3
    for kept, layer in zip((0, 1, 3), shorter.encoder_layers(), strict=True):
        assert torch.equal(layer.up.weight, network.encoder_layers()[kept].up.weight)
    torch.testing.assert_close(answers(shorter, bert), answers(network, bert), rtol=0, atol=0.05)


def test_states_of_layers_are_those_of_a_reading(bert: Small) -> None:
    states = layer_states(bert.network, bert.given.evidence)
    assert len(states) == 5
    assert {len(each) for each in states} == {len(bert.texts.ids)}
    ids, mask = bert.batch()
    with torch.no_grad():
        output, inside = bert.network.read(ids, mask)
    last = next(value for signal, value in inside.items() if signal.name == "STATES")[-1]
    # Both sum up to the same, in whatever order the texts came.
    torch.testing.assert_close(states[-1].sum(0), last[mask.bool()].sum(0), rtol=1e-4, atol=1e-3)
    assert torch.equal(in_a_row(output, mask), bert.said(bert.network))


@pytest.mark.parametrize("rank", [0.2, 0.5])
def test_factors_are_the_best_of_their_rank(bert: Small, rank: float) -> None:
    """Against numpy: the squared error is the sum of the squared singular values left out."""
    network = factorise_linear(bert.network, FactoriseLinearSettings(rank=rank), bert.given)
    network = factorise_embeddings(network, FactoriseEmbeddingsSettings(rank=rank), bert.given)
    found = 0
    for layer, whole in zip(network.encoder_layers(), bert.network.encoder_layers(), strict=True):
        for name in ("qkv", "attended", "up", "down"):
            part, matrix = getattr(layer, name), getattr(whole, name).weight.detach().numpy()
            if not isinstance(part, LowRankLinear):
                # Products of this rank would be as large.
                rows, columns = matrix.shape
                assert round(rank * min(rows, columns)) * (rows + columns) >= rows * columns
                continue
            found += 1
            product = (part.left.weight @ part.right.weight).detach().numpy()
            left_out = np.linalg.svd(matrix.astype(np.float64))[1][part.rank :]
            error = np.square(product - matrix).sum()
            np.testing.assert_allclose(error, np.square(left_out).sum(), rtol=1e-4)
            assert torch.equal(part.left.bias, getattr(whole, name).bias)
    assert found == (16 if rank == 0.2 else 12)
    table = bert.network.embedding.tokens.weight.detach().numpy()
    small_table = network.embedding
    assert small_table.projection is not None
    product = (small_table.tokens.weight @ small_table.projection.weight.T).detach().numpy()
    left_out = np.linalg.svd(table.astype(np.float64))[1][round(rank * 24) :]
    np.testing.assert_allclose(np.square(product - table).sum(), np.square(left_out).sum(),
                               rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize("importance", ["taylor", "magnitude", "activation"])
def test_an_encoder_loses_the_share_that_was_asked_for(bert: Small, importance: str) -> None:
    def size(network: TransformerStudent) -> int:
        return sum(p.numel() for layer in network.layers for p in layer.parameters())

    settings = PruneEncoderSettings(share=0.65, importance=importance)  # type: ignore[arg-type]
    pruned = prune_encoder(bert.network, settings, bert.given)
    # To within half a head.
    assert abs(size(pruned) - 0.35 * size(bert.network)) <= 6 * (3 * 25 + 24) / 2
    assert min(layer.heads for layer in pruned.encoder_layers()) >= 1
    assert min(layer.up.out_features for layer in pruned.encoder_layers()) >= 1


def test_layers_that_share_weights_are_changed_apart_and_the_teacher_not_at_all() -> None:
    tied = small(tied=True)
    before = {name: t.clone() for name, t in tied.teacher.state_dict().items()}
    theirs = tied.said(tied.teacher)
    torch.testing.assert_close(answers(tied.network, tied), theirs, rtol=0, atol=1e-5)
    pruned = prune_neurons(tied.network, PruneNeuronsSettings(share=0.5), tied.given)
    first, third = (pruned.encoder_layers()[place] for place in (0, 2))
    assert first.up.weight.data_ptr() != third.up.weight.data_ptr()
    with torch.no_grad():
        first.up.weight.zero_()
    assert third.up.weight.abs().sum() > 0
    assert all(torch.equal(t, before[n]) for n, t in tied.teacher.state_dict().items())
