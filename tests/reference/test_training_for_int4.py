"""Training for INT4: the grid is the file's own, and what rounding loses is mostly won back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.compress.blocks import to_blocks
from edgedistill.compress.groups import GroupInt4
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
from edgedistill.train.tune.int4_grid import fitting_rate, hold_on_grid, on_grid

NUM_TOKENS, WIDTH, PAD = 70, 64, 0


class Network(nn.Module):
    """A mean of vectors, two products that are worth four bits, and a head that is not."""

    def __init__(self, width: int = WIDTH, inner: int = 80, *, is_tied: bool = False) -> None:
        super().__init__()
        inner = NUM_TOKENS if is_tied else inner
        self.table = nn.Embedding(NUM_TOKENS, width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.head = nn.Linear(width, 5)
        if is_tied:
            self.table.weight = self.up.weight

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> ModelOutput:
        mask = attention_mask[..., None].float()
        mean = (self.table(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1)
        features = mean + self.down(nn.functional.gelu(self.up(3 * mean)))
        return ModelOutput(self.head(features), features)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(scope="module")
def texts() -> Encoded:
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, NUM_TOKENS, rng.integers(2, 9)).tolist() for _ in range(400)]
    return Encoded.from_lists(rows)


@pytest.mark.parametrize("shape", [(8, 20), (30, 130), (5, 300)])
def test_training_and_file_round_alike(shape: tuple[int, int]) -> None:
    weight = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    weight[2] = 0.0
    weight[3, :2] = 1.5, -1.5  # a tie
    rounded = on_grid(torch.from_numpy(weight)).numpy()
    # All but ties, where either sign may win.
    np.testing.assert_array_equal(
        np.delete(rounded, 3, axis=0), np.delete(to_blocks(weight.T, 4).values.T, 3, axis=0)
    )
    # What lies on the grid stays, to the bit, in training and in the file.
    np.testing.assert_array_equal(on_grid(torch.from_numpy(rounded)).numpy(), rounded)
    np.testing.assert_array_equal(to_blocks(rounded.T, 4).values.T, rounded)


def test_forward_is_rounded_backward_is_not(network: Network) -> None:
    weight = network.up.weight.detach().clone()
    held = hold_on_grid(network)
    assert held == ["up.weight", "down.weight"]
    assert torch.equal(network.up.weight, on_grid(weight))
    ids = torch.ones(2, 3, dtype=torch.int64)
    network(ids, ids).logits.square().sum().backward()
    behind = network.up.parametrizations["weight"].original  # type: ignore[index, union-attr]
    assert behind.grad is not None  # type: ignore[union-attr]
    assert behind.grad.abs().sum() > 0  # type: ignore[operator, union-attr]
    assert torch.equal(behind, weight)  # type: ignore[arg-type]
    leave(network, held)
    assert torch.equal(network.up.weight, on_grid(weight))
    assert set(network.state_dict()) == set(Network().state_dict())


def test_what_has_nothing_worth_four_bits_or_ties_it_is_refused(network: Network) -> None:
    with pytest.raises(CannotApply, match="no matrix products"):
        hold_on_grid(nn.Sequential(nn.Embedding(1000, 64), nn.Linear(64, 5)))
    with pytest.raises(CannotApply, match=r"up\.weight is tied to another module"):
        hold_on_grid(Network(is_tied=True))


def test_the_rate_falls_as_products_grow_wider() -> None:
    rates = []
    for width in (64, 256):
        network = Network(width, width)
        rates.append(fitting_rate(network, hold_on_grid(network)))
    assert rates == pytest.approx([1e-4, 1e-4 / 4])


def test_one_step_at_that_rate_moves_answers_of_any_width_by_about_as_much() -> None:
    moved = []
    for width in (64, 1024):
        torch.manual_seed(0)
        product = nn.Linear(width, width, bias=False)
        inputs = torch.randn(width)
        rate = fitting_rate(nn.Sequential(product), ["0.weight"])
        before = product(inputs)
        # Adam's first step: every weight by the rate, against the sign of its gradient.
        optimizer = torch.optim.Adam(product.parameters(), lr=rate)
        before.sum().backward()
        optimizer.step()
        moved.append(float((product(inputs) - before).detach().abs().mean()))
    assert moved[0] == pytest.approx(moved[1], rel=0.2)


def test_most_of_what_rounding_loses_is_won_back_and_the_file_holds_what_was_trained(
    network: Network, texts: Encoded, tmp_path: Path
) -> None:
    with torch.no_grad():  # answers that rounding moves
        network.head.weight *= 20
    full = model_outputs(network, texts, pad_id=PAD)[0]

    def divergence(logits: np.ndarray) -> float:
        return float(softened_kl(torch.from_numpy(logits), torch.from_numpy(full), 1.0))

    held = hold_on_grid(network)
    untrained = divergence(model_outputs(network, texts, pad_id=PAD)[0])
    network.train()
    train(
        network, Response(ResponseConfig(temperature=1.0)),
        TrainingSet(texts, np.full(len(texts), -1), PAD, {Signal.LOGITS: full}),
        score=lambda m: -divergence(model_outputs(m, texts, pad_id=PAD)[0]),
        config=LoopConfig(20, 1e-4, weight_decay=0.0), checkpoints=tmp_path / "c", stage="aware",
        listener=silent,
    )  # fmt: skip
    leave(network, held)
    trained = model_outputs(network, texts, pad_id=PAD)[0]
    assert divergence(trained) < 0.5 * untrained
    for linear in (network.up, network.down):
        weight = linear.weight.detach().numpy()
        np.testing.assert_array_equal(to_blocks(weight.T, 4).values.T, weight)

    exported = OnnxExporter().write(network, to=tmp_path / "full.onnx")
    small = GroupInt4()(exported, to=tmp_path / "small.onnx", calibration=[])
    assert small.stat().st_size < 0.6 * exported.stat().st_size
    found = OnnxExporter().run(small, texts, PAD)[0]
    # The file differs from what was trained by the INT8 of its activations alone.
    assert np.abs(found - trained).mean() < 0.02 * np.abs(full).mean()
