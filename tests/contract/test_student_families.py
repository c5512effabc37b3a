"""What every student family promises, for every preset that `auto` tries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from edgedistill.compress.sequence import apply_passes
from edgedistill.core.artefacts import Encoded
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.families import FAMILIES
from edgedistill.models.inference import model_outputs
from edgedistill.models.students.family import Material

PAD = 0
PRESETS = [(family, preset) for family in FAMILIES for preset in FAMILIES.load(family).presets]
#: A forecast may be off by this share of the real bytes.
FORECAST_TOLERANCE = 0.2

Build = Callable[[str, str], nn.Module]


def test_there_are_families_and_each_has_presets() -> None:
    assert len(FAMILIES) >= 4
    assert {family for family, _ in PRESETS} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_frozen_described_and_refuse_unknown_keys(family: str) -> None:
    config = FAMILIES.load(family).config
    with pytest.raises(ValidationError, match="not permitted"):
        config(no_such_setting=1)
    field = next(iter(config.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config(), field, 1)
    assert re.match(r"[A-Z].+\.$", (config.__doc__ or "").splitlines()[0])
    assert all(info.description for info in config.model_fields.values())


@pytest.mark.parametrize(("family", "preset"), PRESETS)
def test_answers_every_text_with_finite_numbers(
    build: Build, held_out: tuple[Encoded, np.ndarray], family: str, preset: str
) -> None:
    model = build(family, preset)
    logits, features = model_outputs(model, held_out[0], pad_id=PAD)
    assert logits.shape == (100, 5)
    assert features.ndim == 2
    assert len(features) == 100
    assert np.isfinite(logits).all()
    assert np.isfinite(features).all()
    assert len(np.unique(logits.round(6), axis=0)) > 90


@pytest.mark.parametrize(("family", "preset"), PRESETS)
def test_padding_and_company_change_nothing(
    build: Build, held_out: tuple[Encoded, np.ndarray], family: str, preset: str
) -> None:
    model, texts = build(family, preset), held_out[0]
    rows = np.arange(20)
    ids, mask = texts.padded(rows, PAD)
    ids, mask = np.pad(ids, ((0, 0), (0, 5))), np.pad(mask, ((0, 0), (0, 5)))
    # What stands under the mask is of no account.
    ids = np.where(mask == 1, ids, 9)
    with torch.no_grad():
        together = model(torch.from_numpy(ids), torch.from_numpy(mask))
        for row in rows:
            alone = model(*map(torch.from_numpy, texts.padded(rows[row : row + 1], PAD)))
            torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=0, atol=1e-4)
            torch.testing.assert_close(alone.features[0], together.features[row], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_building_repeats_and_leaves_the_teacher_alone(
    build: Build, material: Material, family: str
) -> None:
    before = {name: t.clone() for name, t in material.teacher.state_dict().items()}
    preset = next(iter(FAMILIES.load(family).presets))
    first, second = build(family, preset).state_dict(), build(family, preset).state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    for name, tensor in material.teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    # A student shares no memory with its teacher, which trains on.
    mine = {t.data_ptr() for t in build(family, preset).state_dict().values()}
    assert not mine & {t.data_ptr() for t in material.teacher.state_dict().values()}


@pytest.mark.parametrize(("family", "preset"), PRESETS)
def test_exports_with_parity_and_takes_the_bytes_forecast(
    build: Build, material: Material, held_out: tuple[Encoded, np.ndarray], tmp_path: Path,
    family: str, preset: str,
) -> None:  # fmt: skip
    model, texts = build(family, preset), held_out[0]
    exporter = OnnxExporter()
    exported = exporter.write(model, to=tmp_path / "model.onnx")
    logits, features = model_outputs(model, texts, pad_id=PAD)
    found_logits, found_features = exporter.run(exported, texts, PAD)
    np.testing.assert_allclose(found_logits, logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found_features, features, rtol=0, atol=1e-4)

    # As in a search: where a pass finds nothing, it is left out.
    small = apply_passes(("int8_tables", "weight_int8"), exported, tmp_path, []).file
    entry = FAMILIES.load(family)
    config = entry.config(**entry.presets[preset])
    teacher = material.teacher.encoder.config.to_dict()  # type: ignore[union-attr, operator]
    forecast = entry.size_bytes(config, len(material.kept.token_ids), 5, teacher)
    assert small.stat().st_size == pytest.approx(forecast, rel=FORECAST_TOLERANCE)
