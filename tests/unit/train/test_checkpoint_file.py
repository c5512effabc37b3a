"""The state between two epochs: one file, exact, without pickle, whole or not at all."""

from __future__ import annotations

import copy
import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from edgedistill.core.errors import StorageError
from edgedistill.train.averaging import WeightAverage
from edgedistill.train.checkpoint import FILE, load_checkpoint, save_checkpoint

PROGRESS = {"epoch": 3, "best_score": 0.25, "best_epoch": 2, "history": [{"loss": 1.5}]}


def made(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with a buffer, and an optimizer that has state after two steps."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3), nn.BatchNorm1d(3))
    groups = [
        {"params": model[0].parameters(), "lr": 0.1},
        {"params": [*model[1].parameters(), *model[2].parameters()], "weight_decay": 0.1},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    for step in range(2):
        optimizer.zero_grad()
        model(torch.arange(7) % (5 + step)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def averaged(model: nn.Module) -> WeightAverage:
    average = WeightAverage(model, 3.0)
    for _ in range(5):
        average.update()
    return average


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    best = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    save_checkpoint(
        folder, model=model, optimizer=optimizer, average=averaged(model), best=best,
        progress=PROGRESS,
    )  # fmt: skip


def assert_same(one: object, other: object) -> None:
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


def test_everything_comes_back_to_the_bit(tmp_path: Path) -> None:
    model, optimizer = made(0)
    save(tmp_path, model, optimizer)
    other, other_optimizer = made(1)
    average = WeightAverage(other, 3.0)
    loaded = load_checkpoint(tmp_path, model=other, optimizer=other_optimizer, average=average)
    assert loaded is not None
    assert average.num_steps == 5
    assert_same(averaged(model).state(), average.state())
    best, progress = loaded
    assert progress == PROGRESS
    assert_same(dict(model.state_dict()), dict(other.state_dict()))
    assert_same(optimizer.state_dict()["state"], other_optimizer.state_dict()["state"])
    assert_same({n: t + 1 for n, t in model.state_dict().items()}, best)


def test_the_next_step_is_the_same(tmp_path: Path) -> None:
    model, optimizer = made(0)
    save(tmp_path, model, optimizer)
    other, other_optimizer = made(1)
    load_checkpoint(
        tmp_path, model=other, optimizer=other_optimizer, average=WeightAverage(other, 3.0)
    )
    for network, descent in ((model, optimizer), (other, other_optimizer)):
        descent.zero_grad()
        network(torch.arange(7)).square().sum().backward()
        descent.step()
    assert_same(dict(model.state_dict()), dict(other.state_dict()))


def test_nothing_saved_yet(tmp_path: Path) -> None:
    model, optimizer = made(0)
    before = copy.deepcopy(model.state_dict())
    average = WeightAverage(model, None)
    found = load_checkpoint(tmp_path, model=model, optimizer=optimizer, average=average)
    assert found is None
    assert_same(dict(before), dict(model.state_dict()))


def test_one_file_without_pickle_that_later_ones_replace(tmp_path: Path) -> None:
    model, optimizer = made(0)
    save(tmp_path, model, optimizer)
    save(tmp_path, model, optimizer)
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    content = (tmp_path / FILE).read_bytes()
    # safetensors: the length of a JSON header, then the header.
    assert content[8:9] == b"{"
    assert int.from_bytes(content[:8], "little") < len(content)


def test_a_save_that_fails_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = made(0)
    save(tmp_path, model, optimizer)
    before = (tmp_path / FILE).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    other, other_optimizer = made(1)
    with pytest.raises(StorageError):
        save(tmp_path, other, other_optimizer)
    assert (tmp_path / FILE).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
