"""Refuses requests before they cost anything: too large, too many at once, or while stopping."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("edgedistill.service")
GUARDED = "/v1/"
"""Paths that begin so are limited; health and metrics always answer."""
PATHS = frozenset(
    ("/v1/predict", "/v1/chat/completions", "/v1/completions", "/healthz", "/readyz", "/metrics")
)
"""Paths counted by name; a client must not be able to make up more of them."""
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True)
class RequestLimits:
    """What one client, and all of them together, may ask for.

    `max_body_bytes`: larger requests get 413. `max_batch_size`: more texts get 422.
    `max_concurrent`: requests beyond these get 429. `drain_s`: seconds that running requests
    have to finish once the server is told to stop.
    """

    max_body_bytes: int = 1_000_000
    max_batch_size: int = 128
    max_concurrent: int = 32
    drain_s: float = 10.0


class Traffic:
    """Running requests, and what Prometheus is told about them. One for each application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.running = 0
        self.is_draining = False
        self.requests = Counter(
            "edgedistill_requests_total", "Requests by path and status.", ["path", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "edgedistill_request_seconds", "Seconds a request took.", ["path"], buckets=_BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self.predictions = Counter(
            "edgedistill_predictions_total",
            "Texts by outcome: answered, or the reason of the abstention.",
            ["outcome"],
            registry=self.registry,
        )
        Gauge(
            "edgedistill_requests_running", "Requests being worked on.", registry=self.registry
        ).set_function(lambda: self.running)


class LimitedApp:
    """ASGI middleware that applies `RequestLimits` and counts.

    Plain ASGI, so that a body is refused while it arrives and not after it is in the memory.
    A failure inside is answered with one sentence; only its type is logged, since its message
    might quote a text.
    """

    def __init__(self, app: ASGIApp, *, limits: RequestLimits, traffic: Traffic) -> None:
        self.app, self.limits, self.traffic = app, limits, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Request(scope, receive, send, self.limits.max_body_bytes)
        begun = time.perf_counter()
        if not scope["path"].startswith(GUARDED):
            await self._handle(request)
        elif self.traffic.is_draining:
            await request.refuse(503, "the server is stopping")
        elif request.declares_too_much():
            await request.refuse(413, f"at most {self.limits.max_body_bytes} bytes a request")
        elif self.traffic.running >= self.limits.max_concurrent:
            await request.refuse(429, f"at most {self.limits.max_concurrent} requests at once")
        else:
            self.traffic.running += 1
            try:
                await self._handle(request)
            finally:
                self.traffic.running -= 1
        path = scope["path"] if scope["path"] in PATHS else "other"
        self.traffic.requests.labels(path, str(request.status)).inc()
        self.traffic.seconds.labels(path).observe(time.perf_counter() - begun)

    async def _handle(self, request: _Request) -> None:
        try:
            await self.app(request.scope, request.receive, request.send)
        except Exception as error:
            LOG.error("%s while answering %s", type(error).__name__, request.scope["path"])
            if request.status == 0:
                await request.refuse(500, "internal error")


class _Request:
    """One request: counts the bytes that arrive, remembers the status that leaves."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self._max_body_bytes = max_body_bytes
        self._num_bytes = 0
        self.status = 0

    def declares_too_much(self) -> bool:
        declared = dict(self.scope["headers"]).get(b"content-length", b"0")
        return declared.isdigit() and int(declared) > self._max_body_bytes

    async def receive(self) -> Message:
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._max_body_bytes:
            # The one family of exceptions that FastAPI lets through while it reads a body.
            raise HTTPException(413, f"at most {self._max_body_bytes} bytes a request")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)

    async def refuse(self, status: int, detail: str) -> None:
        body = json.dumps({"detail": detail}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if status in (429, 503):
            headers.append((b"retry-after", b"1"))
        if status == 413:
            # The rest of the body stays unread: this connection cannot serve another request.
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
