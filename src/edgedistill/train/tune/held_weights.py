"""Matrices that training reads as their file will hold them, each through a parametrisation."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgedistill.core.errors import CannotApply
from edgedistill.core.weight_groups import is_large

#: Of products alone, and of every module whose matrices are no tables that are looked up.
PRODUCTS: tuple[type[nn.Module], ...] = (nn.Linear,)
ANY_MODULE: tuple[type[nn.Module], ...] = (nn.Module,)


def hold(
    model: nn.Module,
    kinds: tuple[type[nn.Module], ...],
    make: Callable[[Tensor], nn.Module],
    *,
    asked_by: str,
    what_for: str,
) -> list[str]:
    """Let `model` read its large matrices in modules of these kinds through what `make` gives.

    Args:
        asked_by: the key of `compress` that asks for it, and would have to go.
        what_for: what the matrices are to be worth.

    Returns:
        The parameters' names.

    Raises:
        CannotApply: there is none, or one is tied to another module.
    """
    names = _large(model, kinds)
    leave_out = f"leave out {asked_by}"
    if not names:
        raise CannotApply(
            f"the student has no matrix products that are worth {what_for}", fix=leave_out
        )
    for name in _tied(model, names):
        raise CannotApply(
            f"{name} is tied to another module, which needs it as it is", fix=leave_out
        )
    for name in names:
        module, own = _place(model, name)
        form = make(getattr(module, own)).train(module.training)
        parametrize.register_parametrization(module, own, form)
    return names


def leave(model: nn.Module, names: list[str]) -> None:
    """End `hold`: what was read becomes the model's own."""
    for name in names:
        parametrize.remove_parametrizations(*_place(model, name), leave_parametrized=True)


def _large(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[str]:
    return [
        f"{path}.{own}" if path else own
        for path, module in model.named_modules()
        if isinstance(module, kinds) and not isinstance(module, nn.Embedding)
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 2 and is_large(*parameter.shape)
    ]


def _tied(model: nn.Module, names: Collection[str]) -> list[str]:
    """Of the parameters, those that go by another name, too."""
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    return [name for name in names if uses[id(model.get_parameter(name))] > 1]


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds a parameter, and its name there."""
    path, _, own = name.rpartition(".")
    return model.get_submodule(path), own
