"""Students that lose their structure in rounds, with training after each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgedistill.core.compression import HARMLESS
from edgedistill.core.files import read_json, write_json
from edgedistill.models.families import FAMILIES
from edgedistill.pipeline.stages.any_ground import AnyGround, Candidate

WEIGHTS = "student.safetensors"
ROUNDS = "rounds"
RECORD = "training.json"


def shrink_in_rounds(
    ground: AnyGround,
    candidate: Candidate,
    folder: Path,
    train: Callable[[Any, Any, str, Path], dict[str, Any]],
) -> tuple[Any, Any, dict[str, Any]]:
    """(module, recipe, record) of a candidate whose last round still lacks its training; without a
    recipe where nothing was done to it that is to be recovered.

    The record has what was left after each pass (`accounts`, the whole network first), and how
    close each round before the last came to the teacher (`rounds`). A killed run goes on with the
    round that it was at.

    Args:
        folder: of the stage at work.
        train: trains a module in place by a recipe, told which round it is, in a folder of its own;
            returns the record.
    """
    import torch
    from safetensors.torch import load_file

    family = FAMILIES.load(candidate.family)
    shrinking, material = family.shrinking, ground.material
    torch.manual_seed(ground.context.spec.seed)
    model, basis = shrinking.begin(material), shrinking.given(material)
    accounts, scores = [shrinking.account(model)], list[float]()
    config = family.config(**candidate.options)
    rounds = shrinking.rounds(config)
    for number, passes in enumerate(rounds, start=1):
        place = folder / ROUNDS / str(number)
        # Written last: what a killed run left without it is made anew.
        if (place / RECORD).exists():
            record = read_json(place / RECORD)
            model = shrinking.restore(record["accounts"][-1]["shape"])
            model.load_state_dict(load_file(place / WEIGHTS))
        else:
            model, told = shrinking.shrink(model, passes, basis)
            record = {"accounts": told}
            if number < len(rounds):
                place.mkdir(parents=True, exist_ok=True)
                recipe = shrinking.recipe(config, model)
                record |= train(model, recipe, f"round {number} of {len(rounds)}", place)
                save_module(model, place / WEIGHTS)
                write_json(place / RECORD, record)
        accounts += record["accounts"]
        if number < len(rounds):
            scores.append(float(record["best_score"]))
    names = {each["pass"]["name"] for each in accounts if each["pass"]}
    recipe = None if HARMLESS.issuperset(names) else shrinking.recipe(config, model)
    return model, recipe, {"accounts": accounts, "rounds": scores}


def forget_rounds(folder: Path) -> None:
    """Delete what lies there of the rounds before the last."""
    shutil.rmtree(folder / ROUNDS, ignore_errors=True)


def save_module(model: Any, path: Path) -> None:
    """Write the weights of a module."""
    from safetensors.torch import save_file

    save_file({name: t.detach().contiguous() for name, t in model.state_dict().items()}, path)
