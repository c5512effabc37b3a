"""Labels of whole texts: what logits say, what a manifest may hold, records with a label."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.core.errors import BundleError
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.extraction.fields import ExtractionSettings, record_schema
from edgedistill.runtime.extraction.labels import Label, best_values, read_labels, value_columns
from edgedistill.service.inference import create_app
from small_extractor import (
    FIELDS,
    LEAST_CONFIDENCE,
    OUT_OF_BOUNDS,
    TEXTS,
    make_files,
    make_manifest,
    with_labels,
)

KIND = Label("kind", ("bill", "reminder"), 2.0)
TONE = Label("tone", ("calm", "cross", "ärgerlich"))


@given(st.lists(st.floats(-300, 300), min_size=5, max_size=5))
def test_confidence_is_the_tempered_softmax_of_the_best_value(logits: list[float]) -> None:
    row = np.array(logits, np.float32)
    found = read_labels((KIND, TONE), row)
    for label, part, value in zip((KIND, TONE), (row[:2], row[2:]), found, strict=True):
        exact = part.astype(np.float64) / label.temperature
        shares = np.exp(exact - exact.max())
        assert value.value == label.values[int(np.argmax(part))]
        assert value.confidence == pytest.approx(1 / shares.sum(), rel=1e-6)
        assert 1 / len(part) <= value.confidence <= 1
    places = best_values((KIND, TONE), row[None])
    assert [label.values[i] for label, i in zip((KIND, TONE), places[0], strict=True)] == [
        value.value for value in found
    ]


def test_without_labels_there_is_nothing_to_read() -> None:
    none = np.zeros((3, 0), np.float32)
    assert best_values((), none).shape == (3, 0)
    assert read_labels((), none[0]) == ()
    assert value_columns(()) == []


def extractor(labels: tuple[Label, ...] = (KIND, TONE), **changes: Any) -> Extractor:
    settings = ExtractionSettings(FIELDS, True, LEAST_CONFIDENCE, labels)
    manifest = make_manifest(extraction=json.loads(json.dumps(settings.as_json())), **changes)
    return Extractor.from_files(manifest, with_labels(make_files(), 5))


def test_a_record_begins_with_its_labels() -> None:
    answer = extractor().predict([TEXTS[1]])[0]
    assert answer.record is not None
    assert list(answer.record) == ["kind", "tone", "total", "item"]
    assert answer.record["kind"] == answer.labels[0].value in KIND.values
    schema = record_schema(FIELDS, (KIND, TONE))
    jsonschema.validate(answer.record, schema)
    assert schema["required"] == ["kind", "tone", "total"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**answer.record, "kind": "letter"}, schema)
    shown = json.loads(json.dumps(answer.as_json()))
    assert [one["name"] for one in shown["labels"]] == ["kind", "tone"]
    assert answer.confidence == min(
        *(one.confidence for one in answer.labels), *(one.confidence for one in answer.fields)
    )


def test_a_text_that_abstains_keeps_its_labels_only_inside_the_bounds() -> None:
    missing, outside = extractor().predict(["the bolt", OUT_OF_BOUNDS])
    assert missing.reason == "missing_field"
    assert [one.name for one in missing.labels] == ["kind", "tone"]
    assert outside.reason == "out_of_bounds"
    assert outside.labels == ()


def test_label_logits_that_are_no_numbers_abstain() -> None:
    broken = extractor()
    run = broken.model.run_all

    def without_labels(ids: Any) -> Any:
        logits, features, labels = run(ids)
        return logits, features, np.full_like(labels, np.nan)

    broken.model.run_all = without_labels  # type: ignore[method-assign]
    assert broken.predict([TEXTS[1]])[0].reason == "out_of_bounds"


def test_golden_rows_cover_the_labels() -> None:
    one = extractor()
    row = one.golden_row(TEXTS[1])
    assert one.golden_difference(row) < 1e-5
    row["logits"][-1] += 1.0
    assert one.golden_difference(row) == pytest.approx(1.0, abs=1e-5)


def test_labels_that_the_model_does_not_have_are_told() -> None:
    with pytest.raises(BundleError, match="5 for the 2 values of labels"):
        extractor((KIND,))
    settings = ExtractionSettings(FIELDS, True, LEAST_CONFIDENCE, (KIND,)).as_json()
    for wrong in ({"values": ["bill"]}, {"temperature": 0.0}, {"values": None}):
        settings["labels"] = [KIND.as_json() | wrong]
        with pytest.raises(BundleError, match="settings of extraction are malformed"):
            ExtractionSettings.from_json(settings)


def test_the_service_answers_with_labels() -> None:
    import anyio

    one = extractor()

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(one))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/predict", json={"text": TEXTS[1]})

    answer = anyio.run(ask).json()["prediction"]
    assert answer == one.predict([TEXTS[1]])[0].as_json()
    assert [label["name"] for label in answer["labels"]] == ["kind", "tone"]
