"""Every catalogue names things that exist, and every family of methods has its contract."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import edgedistill
from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import SpecError

SOURCE = Path(edgedistill.__file__).parent
PROJECT = SOURCE.parents[1] / "pyproject.toml"


def all_catalogues() -> dict[str, Catalogue]:
    """Every catalogue that a module of the package makes, by its family."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        if "Catalogue(\n" in file.read_text(encoding="utf-8"):
            parts = ("edgedistill", *file.relative_to(SOURCE).with_suffix("").parts)
            values = vars(import_module(".".join(parts))).values()
            found |= {v.family: v for v in values if isinstance(v, Catalogue)}
    return found


CATALOGUES = all_catalogues()


def test_the_catalogues_are_found() -> None:
    assert {"student family", "compression pass", "out-of-bounds score"} <= set(CATALOGUES)


@pytest.mark.parametrize("family", CATALOGUES)
def test_every_entry_loads(family: str) -> None:
    catalogue = CATALOGUES[family]
    assert len(catalogue) > 0
    for kind in catalogue:
        assert catalogue.load(kind) is not None


@pytest.mark.parametrize("family", CATALOGUES)
def test_an_unknown_kind_is_told_the_known_ones(family: str) -> None:
    with pytest.raises(SpecError, match="unknown") as caught:
        CATALOGUES[family].load("os:system")
    assert all(kind in str(caught.value) for kind in CATALOGUES[family])


@pytest.mark.parametrize(
    ("family", "contract"),
    [
        ("student family", "students"),
        ("compression pass", "passes"),
        ("structural pass", "structural"),
        ("out-of-bounds score", "scores"),
        ("distillation strategy", "strategies"),
    ],
)
def test_methods_of_a_family_are_under_an_independence_contract(family: str, contract: str) -> None:
    settings: Any = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]
    contracts = {c["id"]: c for c in settings["contracts"]}
    modules = {entry.split(":")[0] for entry in CATALOGUES[family].values()}
    assert modules == set(contracts[contract]["modules"])
