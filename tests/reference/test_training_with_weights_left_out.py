"""Training with weights left out: masks by brute force, scores by hand, and what the pass finds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgedistill.compress.sparse import SparseHalf, SparseTwoOfFour, larger_half, two_of_four
from edgedistill.compress.symmetric import quantise
from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import CannotApply
from edgedistill.core.events import silent
from edgedistill.core.protocols import ModelOutput, Signal
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.inference import model_outputs
from edgedistill.train.batches import TrainingSet
from edgedistill.train.distill.logit_losses import softened_kl
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.tune.held_weights import leave
from edgedistill.train.tune.sparse_weights import RisingSparsity, hold_sparse, kept

NUM_TOKENS, WIDTH, PAD = 70, 64, 0
By = Literal["movement", "magnitude"]


class Network(nn.Module):
    """Positions beside a table; two products, one of them of vectors a token; a small head."""

    def __init__(self, *, is_tied: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(NUM_TOKENS, WIDTH)
        self.positions = nn.Parameter(torch.randn(64, WIDTH))
        self.up = nn.Linear(WIDTH, 80)
        self.down = nn.Linear(80, WIDTH)
        self.head = nn.Linear(WIDTH, 5)
        if is_tied:
            self.up = nn.Linear(WIDTH, NUM_TOKENS)
            self.table.weight = self.up.weight

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        mask = attention_mask[..., None].float()
        states = self.table(input_ids) + self.positions[: input_ids.shape[1]]
        inner = nn.functional.gelu(self.up(states))
        mean = (inner * mask).sum(1) / mask.sum(1).clamp(min=1)
        features = self.down(mean)
        return ModelOutput(self.head(features), features)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    network = Network().eval()
    with torch.no_grad():  # answers that left-out weights move
        network.head.weight *= 40
    return network


@pytest.fixture(scope="module")
def texts() -> Encoded:
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, NUM_TOKENS, rng.integers(2, 9)).tolist() for _ in range(400)]
    return Encoded.from_lists(rows)


def stays_by_hand(rank: np.ndarray, *, in_runs: bool, risen: float) -> np.ndarray:
    """Place by place: what is to go, lowest first, of equal ones the last first."""
    flat = rank.ravel().tolist()
    by_rank = sorted(range(len(flat)), key=lambda place: (flat[place], -place))
    goes = by_rank[: len(flat) // 2]
    if in_runs:
        goes = []
        for start in range(0, len(flat), 4):
            run = range(start, min(start + 4, len(flat)))
            goes += sorted(run, key=lambda place: (-flat[place], place))[2:]
        goes.sort(key=by_rank.index)
    stays = np.ones(len(flat), bool)
    stays[goes[: round(risen * len(goes))]] = False
    return stays.reshape(rank.shape)


@pytest.mark.parametrize("risen", [0.0, 0.3, 0.999, 1.0])
@pytest.mark.parametrize("in_runs", [False, True])
@pytest.mark.parametrize("shape", [(6, 8), (7, 3), (5, 5), (1, 1), (2, 7)])
def test_masks_are_those_of_brute_force(
    shape: tuple[int, int], in_runs: bool, risen: float
) -> None:
    rng = np.random.default_rng(1)
    for rank in (rng.normal(size=shape), rng.integers(-1, 2, shape) * 1.0, np.zeros(shape)):
        found = kept(torch.from_numpy(rank), in_runs=in_runs, risen=risen).numpy()
        assert np.array_equal(found, stays_by_hand(rank, in_runs=in_runs, risen=risen))


def test_scores_sum_up_what_moves_weights_away_from_zero() -> None:
    """Three steps of a product alone, by the sums of the paper in NumPy."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 64, bias=False))
    (name,) = hold_sparse(model, "movement", in_runs=True)
    held = model[0].parametrizations["weight"]  # type: ignore[index, union-attr]
    weight = held.original.detach().numpy().astype(np.float64)  # type: ignore[union-attr, operator]
    scores, rate = np.abs(weight), 0.05
    rng = np.random.default_rng(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for step in range(1, 4):
        inputs, wanted = rng.normal(size=(2, 16, 64))
        risen = 1 - (1 - step / 3) ** 3
        stays = stays_by_hand(scores, in_runs=True, risen=risen)
        error = inputs @ (weight * stays).T - wanted
        of_read = 2 * error.T @ inputs / error.size  # slope of the mean square by what is read
        scores, weight = scores - rate * weight * of_read, weight - rate * stays * of_read

        model.train()
        held[0].risen = risen  # type: ignore[index, union-attr]
        given = torch.from_numpy(inputs).float()
        loss = (model(given) - torch.from_numpy(wanted).float()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned = held[0].scores.detach().numpy()  # type: ignore[index, union-attr, operator]
    np.testing.assert_allclose(learned, scores, rtol=1e-5, atol=1e-7)
    left = stays_by_hand(scores, in_runs=True, risen=1.0)
    leave(model.eval(), [name])
    np.testing.assert_allclose(
        model[0].weight.detach().numpy(), weight * left, rtol=1e-4, atol=1e-6
    )


def test_by_magnitude_what_is_left_out_is_not_moved(network: Network) -> None:
    weight = network.up.weight.detach().clone()
    held = hold_sparse(network, "magnitude", in_runs=False)
    assert held == ["positions", "up.weight", "down.weight"]
    ids = torch.ones(2, 3, dtype=torch.int64)
    network(ids, ids).logits.square().sum().backward()
    slope = network.get_parameter("up.parametrizations.weight.original").grad
    assert slope is not None
    stays = torch.from_numpy(larger_half(weight.numpy()))
    assert (slope[~stays] == 0).all()
    assert (slope[stays] != 0).any()
    leave(network, held)
    assert torch.equal(network.up.weight, weight * stays)
    assert set(network.state_dict()) == set(Network().state_dict())


def test_sparsity_rises_by_a_cubic_to_half_of_the_training_and_stays(network: Network) -> None:
    hold_sparse(network, "magnitude", in_runs=False)
    network.train()
    shares = []

    class Looks:
        needs: frozenset[Signal] = frozenset()

        def __call__(self, model: nn.Module, batch: object, *, rng: object) -> dict[str, object]:
            shares.append(float((network.up.weight == 0).float().mean()))
            return {}

    step = RisingSparsity(Looks(), network, num_steps=8)  # type: ignore[arg-type]
    for _ in range(8):
        step(network, None, rng=torch.Generator())  # type: ignore[arg-type]
    expected = [0.5 * (1 - (1 - min(done, 4) / 4) ** 3) for done in range(1, 9)]
    np.testing.assert_allclose(shares, expected, atol=1e-3)


def test_what_has_nothing_to_leave_out_of_or_ties_it_is_refused() -> None:
    with pytest.raises(CannotApply, match="no matrix products"):
        hold_sparse(
            nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 5)), "movement", in_runs=True
        )
    with pytest.raises(CannotApply, match=r"up\.weight is tied to another module"):
        hold_sparse(Network(is_tied=True), "magnitude", in_runs=False)


@pytest.mark.parametrize(("by", "in_runs"), [("movement", True), ("magnitude", False)])
def test_training_beats_the_plain_pass_and_the_pass_finds_what_was_trained(
    network: Network, texts: Encoded, tmp_path: Path, by: By, in_runs: bool
) -> None:
    full = model_outputs(network, texts, pad_id=PAD)[0]

    def divergence(logits: np.ndarray) -> float:
        return float(softened_kl(torch.from_numpy(logits), torch.from_numpy(full), 1.0))

    held = hold_sparse(network, by, in_runs=in_runs)
    untrained = divergence(model_outputs(network, texts, pad_id=PAD)[0])
    data = TrainingSet(texts, np.full(len(texts), -1), PAD, {Signal.LOGITS: full})
    step = RisingSparsity(
        Response(ResponseConfig(temperature=1.0)), network, 12 * data.num_batches(32, 0, 0)
    )
    train(
        network, step, data,
        score=lambda m: -divergence(model_outputs(m, texts, pad_id=PAD)[0]),
        config=LoopConfig(12, 1e-3, weight_decay=0.0, patience=12), checkpoints=tmp_path / "c",
        stage="sparse", listener=silent,
    )  # fmt: skip
    leave(network, held)
    trained = model_outputs(network, texts, pad_id=PAD)[0]
    assert divergence(trained) < 0.5 * untrained

    exported = OnnxExporter().write(network, to=tmp_path / "full.onnx")
    made = SparseTwoOfFour() if in_runs else SparseHalf()
    small = made(exported, to=tmp_path / "small.onnx", calibration=[])
    assert {t.name for t in onnx.load(small).graph.initializer if t.name.endswith("kept")}
    for parameter in (network.up.weight, network.down.weight, network.positions):
        values = parameter.detach().numpy()
        assert (values == 0).mean() == pytest.approx(0.5, abs=0.01)
        if in_runs:
            runs = values.reshape(-1, 4)
            stay = np.zeros(runs.shape, bool)
            np.put_along_axis(stay, two_of_four(values).astype(int), True, axis=1)
            assert (runs[~stay] == 0).all()
        else:
            assert (values[~larger_half(values)] == 0).all()
        with torch.no_grad():  # what the file holds of it: the trained weights in INT8
            codes, scale = quantise(values, axis=1)
            parameter.copy_(torch.from_numpy(codes * scale))
    found = OnnxExporter().run(small, texts, PAD)[0]
    expected = model_outputs(network, texts, pad_id=PAD)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(full).max())
