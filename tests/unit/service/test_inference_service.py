"""The HTTP service: answers, limits, metrics, draining, and silence about texts."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

import edgedistill
from edgedistill.runtime.classification import Classifier
from edgedistill.runtime.prediction import Prediction
from edgedistill.service.inference import create_app
from edgedistill.service.limits import RequestLimits
from small_bundle import OUT_OF_BOUNDS, TEXTS, make_bundle, make_classifier

LIMITS = RequestLimits(max_body_bytes=2000, max_batch_size=4, max_concurrent=2, drain_s=5)
SECRET = "my secret parcel"


class Gated(Classifier):
    """Answers once the gate is open; fails on a certain text."""

    gate = threading.Event()
    waiting = threading.Semaphore(0)

    def predict(self, texts: Sequence[Any]) -> list[Prediction]:
        if "slow" in texts:
            self.waiting.release()
            assert self.gate.wait(20)
        if SECRET in texts:
            raise RuntimeError(f"cannot digest {texts[0]!r}")
        return super().predict(texts)


def gated() -> Gated:
    plain = make_classifier()
    return Gated(plain.manifest, plain.model, plain.guard)


@contextmanager
def running() -> Iterator[tuple[uvicorn.Server, httpx.Client, Any]]:
    """A real server on a free port, in a thread, with a client and its application."""
    Gated.gate.clear()
    app = create_app(gated(), limits=LIMITS)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield server, client, app
        Gated.gate.set()
        server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[uvicorn.Server, httpx.Client, Any]]:
    """A server for tests that leave no trace in it."""
    with running() as everything:
        yield everything


@pytest.fixture
def own_server() -> Iterator[tuple[uvicorn.Server, httpx.Client, Any]]:
    """A server for one test."""
    with running() as everything:
        yield everything


Server = tuple[uvicorn.Server, httpx.Client, Any]


def test_one_text(server: Server) -> None:
    answer = server[1].post("/v1/predict", json={"text": TEXTS[0]})
    assert answer.status_code == 200
    assert set(answer.json()) == {"prediction"}
    assert answer.json()["prediction"] == make_classifier().predict([TEXTS[0]])[0].as_json()


def test_several_texts_in_order(server: Server) -> None:
    texts = ["stop it now", OUT_OF_BOUNDS, "", "where is my parcel"]
    body = server[1].post("/v1/predict", json={"texts": texts}).json()
    assert [p["label"] for p in body["predictions"]] == ["cancel", None, None, "track"]
    assert [p["reason"] for p in body["predictions"]] == [None, "out_of_bounds", "empty", None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"text": null}',
        b'{"text": 5}',
        b'{"texts": []}',
        b'{"texts": ["a", null]}',
        b'{"text": "a", "texts": ["a"]}',
        b'{"text": "a", "temperature": 2}',
        b'{"texts": ["a", "a", "a", "a", "a"]}',
        b"\xff\xfe",
    ],
)
def test_malformed_requests_get_422_or_400(server: Server, body: bytes) -> None:
    answer = server[1].post(
        "/v1/predict", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in ((422,) if body != b"\xff\xfe" else (400, 422))
    assert isinstance(answer.json()["detail"], str)


def test_a_lone_surrogate_is_abstained_from(server: Server) -> None:
    answer = server[1].post(
        "/v1/predict",
        content=b'{"text": "where is \\ud800 my parcel"}',
        headers={"content-type": "application/json"},
    )
    assert answer.json()["prediction"]["reason"] == "wrong_type"


def test_errors_do_not_repeat_the_text(server: Server) -> None:
    answer = server[1].post("/v1/predict", json={"text": [SECRET], SECRET[:2]: SECRET})
    assert answer.status_code == 422
    assert SECRET not in answer.text


def test_a_body_that_declares_too_much_is_refused(server: Server) -> None:
    answer = server[1].post("/v1/predict", json={"text": "x" * 3000})
    assert answer.status_code == 413
    assert "2000 bytes" in answer.json()["detail"]


def test_a_body_that_hides_its_length_is_refused(server: Server) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"text": "'
        for _ in range(100):
            yield b"x" * 100
        yield b'"}'

    answer = server[1].post("/v1/predict", content=pieces())
    assert answer.status_code == 413


def test_health_readiness_and_openapi(server: Server) -> None:
    client = server[1]
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/v1/predict", "/healthz", "/readyz", "/metrics"}
    assert {"200", "413", "422", "429", "503"} <= set(
        schema["paths"]["/v1/predict"]["post"]["responses"]
    )


def test_metrics_count_requests_and_outcomes(own_server: Server) -> None:
    client = own_server[1]
    client.post("/v1/predict", json={"texts": ["stop it now", "", OUT_OF_BOUNDS]})
    client.post("/v1/predict", json={})
    client.get("/made/up/path")
    text = client.get("/metrics").text
    assert 'edgedistill_requests_total{path="/v1/predict",status="200"} 1.0' in text
    assert 'edgedistill_requests_total{path="/v1/predict",status="422"} 1.0' in text
    assert 'edgedistill_requests_total{path="other",status="404"} 1.0' in text
    for outcome in ("answered", "empty", "out_of_bounds"):
        assert f'edgedistill_predictions_total{{outcome="{outcome}"}} 1.0' in text
    assert "edgedistill_request_seconds_bucket" in text


def test_too_many_at_once_get_429_and_health_still_answers(own_server: Server) -> None:
    client = own_server[1]
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(client.post, "/v1/predict", json={"text": "slow"}) for _ in range(2)]
        for _ in slow:
            assert Gated.waiting.acquire(timeout=10)
        refused = client.post("/v1/predict", json={"text": TEXTS[0]})
        assert client.get("/healthz").status_code == 200
        Gated.gate.set()
        assert [done.result().status_code for done in slow] == [200, 200]
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert client.post("/v1/predict", json={"text": TEXTS[0]}).status_code == 200


def test_a_failure_is_one_sentence_and_the_log_is_silent_about_the_text(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="edgedistill.service"):
        answer = server[1].post("/v1/predict", json={"text": SECRET})
    assert answer.status_code == 500
    assert answer.json() == {"detail": "internal error"}
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text
    assert server[1].post("/v1/predict", json={"text": TEXTS[0]}).status_code == 200


def test_while_draining_new_requests_get_503(own_server: Server) -> None:
    own_server[2].state.traffic.is_draining = True
    client = own_server[1]
    assert client.post("/v1/predict", json={"text": TEXTS[0]}).status_code == 503
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_serve_command_answers_and_ends_well(tmp_path: Path, sign: signal.Signals) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    source = str(Path(edgedistill.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-m", "edgedistill.cli.app", "serve", bundle.path, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": source},
    ) as process:  # fmt: skip
        assert process.stderr
        told = ""
        while (found := re.search(r"http://127\.0\.0\.1:(\d+)", told)) is None:
            line = process.stderr.readline()
            assert line, told
            told += line
        request = urllib.request.Request(
            f"{found[0]}/v1/predict",
            data=json.dumps({"text": "my very own parcel is late"}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["prediction"]["label"] == "track"
        process.send_signal(sign)
        assert process.wait(20) == 0
        told += process.stderr.read()
        assert "very own" not in told + (process.stdout.read() if process.stdout else "")
        assert "Traceback" not in told
