"""The state of a training run between two epochs: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from edgedistill.core.files import write_bytes
from edgedistill.train.averaging import WeightAverage

FILE = "checkpoint.safetensors"


def moving_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The part of a model's state that training moves: all but parameters that are frozen.

    Beside adapters the frozen weights are nearly everything, and may be of 4 bits.
    """
    # A tied weight has two names in the state, and one among the parameters.
    frozen = {name for name, p in model.named_parameters(remove_duplicate=False)
              if not p.requires_grad}  # fmt: skip
    # What bitsandbytes keeps of a weight goes by the weight's name and a dot.
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name not in frozen and not _stems(name, frozen)
    }


def put_back(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load what `moving_state` gave.

    Raises:
        RuntimeError: the state is another model's.
    """
    lost = moving_state(model).keys() - state.keys()
    found = model.load_state_dict(state, strict=False)
    if lost or found.unexpected_keys:
        raise RuntimeError(f"another model's state: {sorted(lost) or found.unexpected_keys}")


def _stems(name: str, frozen: set[str]) -> list[str]:
    """The frozen parameters that a name begins with."""
    parts = name.split(".")
    stems = (".".join(parts[:n]) for n in range(1, len(parts)))
    return [stem for stem in stems if stem in frozen]


def save_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
    best: dict[str, torch.Tensor],
    progress: dict[str, Any],
) -> None:
    """Write everything that the next epoch depends on, as one file, atomically."""
    tensors = {f"model/{name}": t for name, t in moving_state(model).items()}
    tensors |= {f"best/{name}": t for name, t in best.items()}
    tensors |= {f"average/{name}": t for name, t in average.state().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(t) for name, t in state.items()}
    content = save(
        {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()},
        metadata={"progress": json.dumps(progress), "averaged": str(average.num_steps)},
    )
    write_bytes(folder / FILE, content)


def load_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Put model, optimizer and average back; returns (best weights, progress) or None."""
    path = folder / FILE
    if not path.exists():
        return None
    groups: dict[str, dict[str, torch.Tensor]] = {
        "model": {}, "best": {}, "average": {}, "optimizer": {},
    }  # fmt: skip
    for name, tensor in load_file(path).items():
        group, _, rest = name.partition("/")
        groups[group][rest] = tensor
    put_back(model, groups["model"])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in groups["optimizer"].items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    metadata = _metadata(path)
    average.load(groups["average"], int(metadata["averaged"]))
    progress: dict[str, Any] = json.loads(metadata["progress"])
    return groups["best"], progress


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stream:
        found: dict[str, str] = stream.metadata()
    return found
