"""A bundle behind HTTP: /v1/predict, /healthz, /readyz, /metrics, OpenAPI; a generator also
answers as OpenAI's endpoints do (see `completions`).

Texts are never logged and never repeated in an error. Needs the extra `serve`.
"""

from __future__ import annotations

import logging
import signal
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from anyio import to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

import edgedistill
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.prediction import Reason
from edgedistill.runtime.runner import Runner
from edgedistill.service.completions import add_completions
from edgedistill.service.limits import LimitedApp, RequestLimits, Traffic

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000


class PredictRequest(BaseModel):
    """One text, or several: give exactly one of the two keys."""

    model_config = ConfigDict(extra="forbid")

    text: StrictStr | None = Field(default=None, examples=["where is my parcel"])
    texts: list[StrictStr] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_key(self) -> PredictRequest:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give exactly one of 'text' and 'texts'")
        return self


class PredictionBody(BaseModel):
    """An answer, or an abstention with its reason."""

    label: str | None
    confidence: float | None = Field(description="calibrated probability of the label")
    abstained: bool
    reason: Reason | None
    detail: str
    score: float | None = Field(description="out-of-bounds score, higher is further out")


class GeneratedBody(BaseModel):
    """A generated answer, or an abstention with its reason."""

    answer: str | None
    abstained: bool
    reason: str | None
    detail: str
    score: float | None = Field(description="out-of-bounds score, higher is further out")
    num_prompt_tokens: int
    num_new_tokens: int


class FieldBody(BaseModel):
    """One span of a text: its field, its words and place, and the value that they give."""

    name: str
    text: str
    start: int
    end: int
    value: Any
    confidence: float = Field(description="calibrated probability of its least sure token")
    abstained: bool
    reason: str | None
    detail: str


class LabelBody(BaseModel):
    """The value of a label of the whole text."""

    name: str
    value: str
    confidence: float = Field(description="calibrated probability of the value")


class ExtractedBody(BaseModel):
    """A record, or an abstention with its reason; the labels of the whole text, and every span that
    was found."""

    record: dict[str, Any] | None
    labels: list[LabelBody]
    fields_: list[FieldBody] = Field(alias="fields")
    confidence: float | None
    abstained: bool
    reason: str | None
    detail: str
    score: float | None = Field(description="out-of-bounds score, higher is further out")


class PredictResponse(BaseModel):
    """`prediction` for `text`; `predictions`, in order, for `texts`."""

    prediction: PredictionBody | GeneratedBody | ExtractedBody | None = None
    predictions: list[PredictionBody | GeneratedBody | ExtractedBody] | None = None


class ErrorBody(BaseModel):
    """What went wrong, in one sentence."""

    detail: str


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": meaning}
    for status, meaning in {
        413: "the request has too many bytes",
        422: "the request is malformed, or has too many texts",
        429: "too many requests at once",
        503: "the server is stopping",
    }.items()
}


def create_app(runner: Runner, *, limits: RequestLimits | None = None) -> FastAPI:
    """The application around a loaded bundle; `app.state.traffic` counts its requests."""
    limits = limits or RequestLimits()
    traffic = Traffic()
    app = FastAPI(
        title=runner.manifest.name,
        summary="Answers within its task, abstains outside of it.",
        version=edgedistill.__version__,
    )
    app.state.traffic = traffic
    app.add_middleware(LimitedApp, limits=limits, traffic=traffic)
    app.add_exception_handler(RequestValidationError, _malformed)

    @app.post(
        "/v1/predict",
        responses=_ERRORS,
        response_model=PredictResponse,
        response_model_exclude_unset=True,
    )
    async def predict(asked: PredictRequest) -> dict[str, Any]:
        texts = asked.texts if asked.texts is not None else [asked.text]
        if len(texts) > limits.max_batch_size:
            raise HTTPException(422, f"at most {limits.max_batch_size} texts a request")
        # In a thread, so that a large batch does not hold up health checks and other requests.
        predictions = await to_thread.run_sync(partial(runner.predict, texts))
        for prediction in predictions:
            traffic.predictions.labels(prediction.reason or "answered").inc()
        bodies = [prediction.as_json() for prediction in predictions]
        return {"prediction": bodies[0]} if asked.texts is None else {"predictions": bodies}

    if isinstance(runner, Generator):
        add_completions(app, runner, traffic)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"model": ErrorBody}})
    async def readyz() -> dict[str, str]:
        """Requests are welcome: the bundle is loaded and the server is not stopping."""
        if traffic.is_draining:
            raise HTTPException(503, "the server is stopping")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(traffic.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def serve(
    runner: Runner,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    limits: RequestLimits | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C, then let running requests finish."""
    limits = limits or RequestLimits()
    app = create_app(runner, limits=limits)
    config = uvicorn.Config(
        app, host=host, port=port, log_level=logging.INFO, server_header=False,
        timeout_graceful_shutdown=max(1, round(limits.drain_s)),
    )  # fmt: skip
    _DrainingServer(config, app.state.traffic).run()


class _DrainingServer(uvicorn.Server):
    """Says 503 to new requests from the moment it is told to stop."""

    def __init__(self, config: uvicorn.Config, traffic: Traffic) -> None:
        super().__init__(config)
        self._traffic = traffic

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests; a second Ctrl-C does not wait for those that run.

        Unlike the parent's, it does not raise the signal again afterwards: a server that was
        told to stop and did has ended well.
        """
        self._traffic.is_draining = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    """What is wrong and where, without the input that FastAPI would repeat."""
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in error.errors()
    ]
    return JSONResponse({"detail": "; ".join(problems[:10])}, status_code=422)
