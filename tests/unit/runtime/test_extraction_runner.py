"""The extractor: records, values, abstentions of fields and of texts; its commands and service."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import edgedistill
from edgedistill.cli.app import app
from edgedistill.core.errors import BundleError
from edgedistill.runtime.comparing import compare
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.extraction.fields import record_schema
from edgedistill.runtime.manifest import MODEL, Manifest
from edgedistill.runtime.measuring import measure_speed
from edgedistill.runtime.verification import verify
from edgedistill.service.inference import create_app
from small_extractor import (
    FIELDS,
    LEAST_CONFIDENCE,
    OUT_OF_BOUNDS,
    TEXTS,
    make_bundle,
    make_extractor,
    make_files,
    make_manifest,
    model_bytes,
)


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return make_extractor()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("extraction") / "bundle").path


def test_a_record_with_its_values_and_places(extractor: Extractor) -> None:
    answer = extractor.predict([TEXTS[0]])[0]
    assert answer.record == {
        "total": {"amount": 12.5, "currency": "EUR"},
        "due": "2024-03-05",
        "item": ["big bolt", "widget"],
    }
    assert not answer.abstained
    assert json.loads(answer.answer or "") == answer.record == json.loads(answer.as_line())
    assert [TEXTS[0][f.start : f.end] for f in answer.fields] == [f.text for f in answer.fields]
    assert [f.name for f in answer.fields] == ["item", "item", "total", "due"]
    assert 0.5 < (answer.confidence or 0) <= min(f.confidence for f in answer.fields)


def test_confidence_is_that_of_the_least_sure_token(extractor: Extractor) -> None:
    (item,) = (f for f in extractor.predict([TEXTS[0]])[0].fields if f.text == "big bolt")
    # "bolt" has 8 for I-item, 7 for B-item and 0 for seven others, at temperature 2.
    assert item.confidence == pytest.approx(np.exp(4) / (np.exp(4) + np.exp(3.5) + 7), rel=1e-5)


def test_a_field_abstains_and_says_why(extractor: Extractor) -> None:
    answer = extractor.predict(["settled and paid: 12 EUR, 99 USD and 5 March"])[0]
    told = {f.text: f.reason for f in answer.fields}
    assert told["settled"] == "not_normalised"
    assert told["5 March"] == "not_normalised"
    assert "no date with day, month and year" in answer.fields[-1].detail
    assert {told["12 EUR"], told["99 USD"]} == {None, "another_is_surer"}
    assert answer.record == {"total": {"amount": 12, "currency": "EUR"}}


def test_an_unsure_field_abstains(extractor: Extractor) -> None:
    # Alone, "bolt" may not be inside: B-item, which is the less likely of its tags.
    answer = extractor.predict(["see the bolt of 12.50 EUR"])[0]
    (bolt,) = (f for f in answer.fields if f.name == "item")
    assert bolt.reason == "unsure"
    assert bolt.confidence < LEAST_CONFIDENCE
    assert answer.record == {"total": {"amount": 12.5, "currency": "EUR"}}


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (None, "wrong_type", "not NoneType"),
        ("\ud800 the widget", "wrong_type", "surrogate"),
        ("", "empty", ""),
        ("\u0300\u0300\u0300", "empty", "readable"),
        ("a", "too_short", ""),
        ("x" * 201, "too_long", "201 characters"),
        ("the " * 30, "too_long", "32 tokens"),
        ("где моя посылка", "wrong_language", ""),
        (OUT_OF_BOUNDS, "out_of_bounds", "in bounds"),
        ("the big bolt is open", "missing_field", "total was not found"),
        ("the big bolt, many EUR", "missing_field", "is not a number"),
    ],
)
def test_a_text_abstains_and_says_why(
    extractor: Extractor, text: Any, reason: str, detail: str
) -> None:
    answer = extractor.predict([text])[0]
    assert (answer.record, answer.answer, answer.abstained) == (None, None, True)
    assert answer.reason == reason
    assert detail in answer.detail
    assert reason in answer.as_line()
    assert bool(answer.fields) == (reason == "missing_field")


ASKED = (
    "the", "is", "12", ".", "50", "EUR", "5", "March", "2024", "open", "paid", "big", "bolt",
    "widget", "é", "\n",
)  # fmt: skip
words = st.lists(st.sampled_from(ASKED), max_size=14).map(" ".join)


@given(words | st.text(max_size=40))
def test_whatever_is_asked_a_record_meets_the_schema(text: str) -> None:
    for answer in make_once().predict([text]):
        json.dumps(answer.as_json(), allow_nan=False)
        if answer.record is not None:
            jsonschema.validate(answer.record, record_schema(FIELDS))
        for found in answer.fields:
            assert text[found.start : found.end] == found.text


_ONCE: list[Extractor] = []


def make_once() -> Extractor:
    """One extractor for all examples of a property."""
    if not _ONCE:
        _ONCE.append(make_extractor())
    return _ONCE[0]


def test_one_text_is_no_list(extractor: Extractor) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        extractor.predict(TEXTS[0])
    assert extractor.predict([]) == []


def test_a_score_that_is_no_number_abstains(extractor: Extractor) -> None:
    broken = make_extractor()
    broken.model.run_all = lambda ids: (  # type: ignore[method-assign]
        np.full((1, len(ids), len(extractor.manifest.labels)), np.nan, np.float32),
        np.zeros((1, 9), np.float32),
        np.zeros((1, 0), np.float32),
    )
    answer = broken.predict([TEXTS[0]])[0]
    assert answer.reason == "out_of_bounds"
    assert answer.as_json()["score"] is None


@pytest.mark.parametrize(
    ("manifest", "files", "message"),
    [
        (make_manifest(labels=("O", "B-a", "I-a")), {}, "not the tags of the fields"),
        (make_manifest(extraction={}), {}, "settings of extraction are malformed"),
        (make_manifest(), {MODEL: model_bytes(5)}, "for 9 tags of 2 tokens"),
    ],
)
def test_a_bundle_that_misfits_is_refused(
    manifest: Manifest, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        Extractor.from_files(manifest, make_files(**files))


def test_bundle_is_verified_and_measured(bundle: Path) -> None:
    result = verify(bundle)
    assert result.holds
    assert result.num_examples == len(TEXTS)
    runner = edgedistill.load(bundle)
    row = runner.golden_row(TEXTS[0])
    assert runner.golden_difference(row) == 0
    assert runner.golden_difference(row | {"logits": [0.0]}) == float("inf")
    speed = measure_speed(runner, list(TEXTS), num_samples=20)
    assert speed.latency.p95_ms > 0
    same = compare([bundle, bundle], [{"text": text} for text in TEXTS], num_timed=8)
    assert same.sides[1].agreement == 1.0
    assert same.sides[0].accuracy is None


def test_a_golden_record_that_differs_is_found(bundle: Path, tmp_path: Path) -> None:
    settings = make_manifest().extraction
    changed = settings | {"fields": [
        field | {"many": False} if field["name"] == "item" else field
        for field in settings["fields"]
    ]}  # fmt: skip
    rows = (bundle / "golden.jsonl").read_bytes()
    from edgedistill.runtime.bundle import write_bundle
    from edgedistill.runtime.manifest import GOLDEN

    manifest = replace(make_manifest(), extraction=changed)
    write_bundle(tmp_path / "other", manifest, make_files(**{GOLDEN: rows}))
    result = verify(tmp_path / "other")
    assert not result.holds
    assert '"item":["big bolt","widget"]' in result.mismatches[0].expected


def test_commands_answer_with_records(bundle: Path) -> None:
    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    record = json.loads(call("predict", str(bundle), TEXTS[1], "--json"))
    assert record["text"] == TEXTS[1]
    assert record["record"]["total"] == {"amount": 99, "currency": "USD"}
    assert call("predict", str(bundle), TEXTS[1]).startswith('{"total":{"amount":99')
    assert "4 of 4 golden examples" in call("verify", str(bundle))


async def ask(runner: Extractor, body: dict[str, Any]) -> httpx.Response:
    transport = httpx.ASGITransport(app=create_app(runner))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post("/v1/predict", json=body)


def test_the_service_answers_with_records(extractor: Extractor) -> None:
    import anyio

    answer = anyio.run(ask, extractor, {"text": TEXTS[0]})
    assert answer.status_code == 200
    assert answer.json()["prediction"] == extractor.predict([TEXTS[0]])[0].as_json()
    many = anyio.run(ask, extractor, {"texts": [OUT_OF_BOUNDS, TEXTS[1]]}).json()["predictions"]
    assert [entry["reason"] for entry in many] == ["out_of_bounds", None]
