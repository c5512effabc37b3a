"""OpenAI's completion endpoints around a generator: whole answers, or piece by piece.

An abstention is a `refusal` with its reason in place of a content; where pieces were already
sent, the last one carries it, and says with the finish reason `content_filter` that the text
before it is not to be used. Prompts and answers are never logged.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, Literal

import anyio
from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from edgedistill.runtime.generation.answer import GeneratedText
from edgedistill.runtime.generation.completion import MAX_SEED
from edgedistill.runtime.generation.generator import Generator
from edgedistill.service.limits import Traffic

Turns = list[tuple[str, str]]
StopText = Annotated[StrictStr, Field(min_length=1)]


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: StrictStr


class Sampling(BaseModel):
    """What both endpoints take. Other keys of OpenAI's are refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="ignored: there is one model")
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    stop: list[StopText] | StopText = Field(default_factory=list)
    stream: bool = False
    n: Literal[1] = 1

    def options(self) -> dict[str, Any]:
        """Arguments of `Generator.answer`."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return {
            "max_new_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": stop,
        }


class ChatRequest(Sampling):
    """A conversation that ends with the user's turn."""

    messages: list[Message] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_turn(self) -> ChatRequest:
        roles = [m.role for m in self.messages]
        spoken = roles[1:] if roles[0] == "system" else roles
        due = ["user", "assistant"] * len(spoken)
        if not spoken or spoken != due[: len(spoken)] or spoken[-1] != "user":
            raise ValueError("perhaps a system turn, then user and assistant in turn, last a user")
        return self

    def turns(self) -> Turns:
        """The turns as (role, content)."""
        return [(message.role, message.content) for message in self.messages]


class CompletionRequest(Sampling):
    """One prompt; it is framed as a user's turn, as in training."""

    prompt: StrictStr

    def turns(self) -> Turns:
        """The prompt as the only turn."""
        return [("user", self.prompt)]


def add_completions(app: FastAPI, generator: Generator, traffic: Traffic) -> None:
    """Add both endpoints."""

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(asked: ChatRequest) -> dict[str, Any] | StreamingResponse:
        return await _answer(
            generator, traffic, asked, asked.turns(), _chat_choice, "chat.completion"
        )

    @app.post("/v1/completions", response_model=None)
    async def completions(asked: CompletionRequest) -> dict[str, Any] | StreamingResponse:
        return await _answer(
            generator, traffic, asked, asked.turns(), _text_choice, "text_completion"
        )


Choice = Callable[[GeneratedText | str], dict[str, Any]]


async def _answer(
    generator: Generator, traffic: Traffic, asked: Sampling, turns: Turns, choice: Choice, kind: str
) -> dict[str, Any] | StreamingResponse:
    head = {
        "id": f"{kind.split('.')[0]}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": generator.manifest.name,
    }
    ask = partial(generator.answer, turns, **asked.options())
    if asked.stream:
        chunk = {**head, "object": f"{kind}.chunk" if kind.startswith("chat") else kind}
        return StreamingResponse(
            _pieces(ask, chunk, choice, traffic), media_type="text/event-stream"
        )
    found = await to_thread.run_sync(ask)
    traffic.predictions.labels(found.reason or "answered").inc()
    return {**head, "choices": [choice(found)], "usage": _usage(found)}


async def _pieces(
    ask: Callable[..., GeneratedText], head: dict[str, Any], choice: Choice, traffic: Traffic
) -> AsyncIterator[str]:
    send, receive = anyio.create_memory_object_stream[GeneratedText | str](1000)

    def work() -> None:
        found = ask(on_text=lambda text: anyio.from_thread.run_sync(send.send_nowait, text))
        anyio.from_thread.run_sync(send.send_nowait, found)

    # A client that goes away closes the stream, which ends the answer that is being written.
    async with send, receive, anyio.create_task_group() as tasks:
        tasks.start_soon(to_thread.run_sync, work)
        async for piece in receive:
            body: dict[str, Any] = {**head, "choices": [_as_delta(choice(piece))]}
            if isinstance(piece, GeneratedText):
                traffic.predictions.labels(piece.reason or "answered").inc()
                body["usage"] = _usage(piece)
            yield f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
            if isinstance(piece, GeneratedText):
                break
    yield "data: [DONE]\n\n"


def _chat_choice(piece: GeneratedText | str) -> dict[str, Any]:
    if isinstance(piece, str):
        return _choice({"message": {"role": "assistant", "content": piece}}, None)
    message = {"role": "assistant", "content": piece.text, "refusal": _refusal(piece)}
    return _choice({"message": message}, piece)


def _text_choice(piece: GeneratedText | str) -> dict[str, Any]:
    if isinstance(piece, str):
        return _choice({"text": piece}, None)
    return _choice({"text": piece.text or "", "refusal": _refusal(piece)}, piece)


def _choice(content: dict[str, Any], found: GeneratedText | None) -> dict[str, Any]:
    reason = None
    if found is not None:
        reason = "content_filter" if found.abstained else "stop"
        if found.reason == "unfinished":
            reason = "length"
    return {"index": 0, **content, "finish_reason": reason}


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice as a piece of a stream: the last one repeats nothing of the text."""
    is_last = choice["finish_reason"] is not None
    if "message" not in choice:
        return {**choice, "text": "" if is_last else choice["text"]}
    message = choice.pop("message")
    delta = {"refusal": message["refusal"]} if is_last else {"content": message["content"]}
    return {**choice, "delta": {k: v for k, v in delta.items() if v is not None}}


def _refusal(found: GeneratedText) -> str | None:
    return f"{found.reason}: {found.detail}" if found.abstained else None


def _usage(found: GeneratedText) -> dict[str, int]:
    return {
        "prompt_tokens": found.num_prompt_tokens,
        "completion_tokens": found.num_new_tokens,
        "total_tokens": found.num_prompt_tokens + found.num_new_tokens,
    }
