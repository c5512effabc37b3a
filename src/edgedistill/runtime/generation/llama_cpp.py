"""A causal language model in llama.cpp, inside this process, through the wheel `xllamacpp`."""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.errors import BundleError, MissingExtra, SpecError
from edgedistill.runtime.generation.completion import (
    Completion,
    maybe_spaced,
    require_prompt,
    require_settings,
)
from edgedistill.runtime.generation.gguf_header import read_header
from edgedistill.runtime.generation.json_grammar import json_grammar


class LlamaCppSession:
    """Runs one GGUF file of the llama architecture. One answer at a time; callers may be threads.

    Prompts are token ids, made by the tokenizer that the model was trained with: llama.cpp's own
    cuts rare texts (runs of spaces, new Unicode) differently. The same prompt gets the same
    answer each time: nothing is reused from earlier prompts.

    The wheel always starts an HTTP server. It is bound to a Unix socket in a private folder that
    is removed at once, so nobody can reach it; on systems without such sockets it listens on
    127.0.0.1 at a port of the system's choice, behind a random key. Nothing here goes through it.

    Args:
        path: the GGUF file.
        threads: threads for reading prompts and generating.
        context: tokens that prompt and answer may have together.
        adapter: a LoRA adapter of this model as a GGUF file, added to its weights as it runs.

    Raises:
        MissingExtra: `xllamacpp` is not installed.
        BundleError: damaged, of another architecture, or refused by llama.cpp.
        SpecError: `context` is more than the model was made for.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, context: int, adapter: Path | None = None
    ) -> None:
        self.header = read_header(path)
        if not 1 <= context <= self.header.context:
            raise SpecError(
                f"a context of {context} tokens", fix=f"1 to {self.header.context} with this model"
            )
        if threads < 1:
            raise SpecError(f"{threads} threads", fix="1 or more")
        self.context = context
        self._server: Any = _open(path, threads, context, adapter)

    @property
    def vocab_size(self) -> int:
        """Ids that the model has."""
        return self.header.vocab_size

    def close(self) -> None:
        """Free the model's memory; the session cannot be used afterwards."""
        self._server = None

    def __enter__(self) -> LlamaCppSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        beams: int = 1,
        length_penalty: float = 1.0,
        grammar: str | None = None,
        json_schema: dict[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
        with_ids: bool = True,
        begins_text: bool = False,
    ) -> Completion:
        """Continue `prompt_ids`; see `LanguageSession`. llama.cpp has no beams."""
        self._require_prompt(prompt_ids, max_new_tokens)
        require_settings(
            max_new_tokens=max_new_tokens, stop=stop, temperature=temperature, top_p=top_p,
            seed=seed, beams=beams, length_penalty=length_penalty,
        )  # fmt: skip
        if beams > 1:
            raise SpecError(f"{beams} beams in llama.cpp", fix="one, or a type of ONNX weights")
        if json_schema is not None:
            if grammar is not None:
                raise SpecError("a grammar and a JSON schema", fix="give one of them")
            grammar = json_grammar(json_schema)
        request: dict[str, Any] = {
            "prompt": [int(i) for i in prompt_ids], "max_tokens": max_new_tokens,
            "temperature": temperature, "seed": seed, "stop": list(stop),
        }  # fmt: skip
        if top_p < 1:
            request |= {"top_p": top_p, "samplers": ["temperature", "top_p"]}
        spaced = begins_text and self._begins_with_space()
        if grammar is not None:
            request["grammar"] = maybe_spaced(_native(grammar)) if spaced else _native(grammar)
        if with_ids:
            request["logprobs"] = 1
        return self._complete(request, on_text, drop_space=spaced).completion()

    def prepare(self, grammar: str) -> None:
        """Check a grammar; see `LanguageSession`. llama.cpp itself reads it with every answer."""
        _native(grammar)

    def score(self, ids: Sequence[int]) -> np.ndarray:
        """Log-probability (natural) of each id given those before it; float32 [len(ids) - 1].

        Exact, from the logits of the shipped file, but no faster than generating: the wheel
        tells no probabilities of a prompt, so each token is made the next answer by a bias, which
        what is reported does not contain. Tokens that spell a part of a character have no entry
        of their own and are looked up among all tokens, which takes longer.

        Raises:
            PromptTooLong, DataError: as for `generate`.
        """
        found = self.likeliest(ids, 1)
        return np.array([one[int(i)] for one, i in zip(found, ids[1:], strict=True)], np.float32)

    def likeliest(self, ids: Sequence[int], num: int) -> list[dict[int, float]]:
        """Log-probabilities by id of at least the `num` likeliest tokens in place of each id but
        the first, that id itself among them. Takes as long as `score`, and raises what it does."""
        self._require_prompt(ids, 0)
        numbers = [int(i) for i in ids]
        return [self._next(numbers[:i], numbers[i], num) for i in range(1, len(numbers))]

    def _next(self, prompt: list[int], token_id: int, num: int) -> dict[int, float]:
        request: dict[str, Any] = {
            "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": num,
            "cache_prompt": True, "logit_bias": [[token_id, _FORCING]],
        }  # fmt: skip
        answer = self._complete(request, None)
        if answer.ids != [token_id]:
            whole = {"logprobs": self.vocab_size, "logit_bias": self._any_whole_token()}
            answer = self._complete(request | whole, None)
        return answer.probabilities

    def _any_whole_token(self) -> list[list[float]]:
        """The bias to a token that spells a whole character: such an answer has an entry."""
        tokens = self.header.metadata["tokenizer.ggml.tokens"]
        kinds = self.header.metadata.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
        whole = (
            i for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == _NORMAL and token.isascii()
        )  # fmt: skip
        return [[next(whole, 0), _FORCING]]

    def _begins_with_space(self) -> bool:
        """Whether the tokenizer puts a space before every text."""
        known = self.header.metadata
        is_sentencepiece = known.get("tokenizer.ggml.model") == "llama"
        return is_sentencepiece and bool(known.get("tokenizer.ggml.add_space_prefix", True))

    def _complete(
        self,
        request: dict[str, Any],
        on_text: Callable[[str], None] | None,
        *,
        drop_space: bool = False,
    ) -> _Answer:
        if self._server is None:
            raise RuntimeError("the session is closed")
        answer = _Answer(on_text, drop_space)
        defaults = {"cache_prompt": False, "samplers": ["temperature"], "stream": True}
        self._server.handle_completions(defaults | request, answer.take)
        if answer.raised is not None:
            raise answer.raised
        if answer.refusal is not None:
            raise SpecError(
                f"llama.cpp cannot follow this request: {answer.refusal}",
                fix="a grammar (GBNF) that the model's tokens can spell"
                if "grammar" in request
                else None,
            )
        return answer

    def _require_prompt(self, ids: Sequence[int], num_new: int) -> None:
        require_prompt(ids, num_new, vocab_size=self.vocab_size, context=self.context)


_NORMAL = 1  # llama.cpp's kind of a plain token
_FORCING = 1e6  # beyond any logit


@dataclass
class _Answer:
    """Gathers the pieces that llama.cpp hands out."""

    on_text: Callable[[str], None] | None
    drop_space: bool = False
    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    probabilities: dict[int, float] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    refusal: str | None = None
    raised: BaseException | None = None

    def take(self, chunk: dict[str, Any]) -> bool:
        """Keep one piece; True ends the answer (the wheel swallows what is raised here)."""
        try:
            self._keep(chunk)
        except BaseException as error:
            self.raised = error
        return self.raised is not None

    def _keep(self, chunk: dict[str, Any]) -> None:
        if "choices" not in chunk:
            self.refusal = str(chunk.get("error", chunk).get("message", chunk))
            return
        choice = chunk["choices"][0]
        probabilities = choice.get("logprobs")
        if probabilities is not None:
            for entry in probabilities["content"]:
                self.ids.append(entry["id"])
                self.logprobs.append(entry["logprob"])
                for rival in (*entry["top_logprobs"], entry):
                    self.probabilities[rival["id"]] = rival["logprob"]
        text = choice["text"]
        if text and self.drop_space:
            text, self.drop_space = text.removeprefix(" "), False
        if text:
            self.pieces.append(text)
            if self.on_text is not None:
                self.on_text(text)
        if choice["finish_reason"] is not None:
            self.last = chunk

    def completion(self) -> Completion:
        if not self.last:
            raise BundleError("llama.cpp gave no end of its answer")
        usage, timings = self.last["usage"], self.last["timings"]
        return Completion(
            text="".join(self.pieces),
            ids=tuple(self.ids) if len(self.ids) == usage["completion_tokens"] else None,
            num_prompt=usage["prompt_tokens"],
            num_new=usage["completion_tokens"],
            finish="length" if self.last["choices"][0]["finish_reason"] == "length" else "stop",
            prompt_ms=timings["prompt_ms"],
            new_ms=timings["predicted_ms"],
            doubt=-float(np.mean(self.logprobs)) if self.logprobs else float("nan"),
        )


def _open(path: Path, threads: int, context: int, adapter: Path | None) -> Any:
    """The wheel's server with the model loaded."""
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtra("running a GGUF file", "llm") from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    if adapter is not None:
        parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    parameters.verbosity = -1
    parameters.n_ctx, parameters.n_parallel, parameters.fit_params = context, 1, False
    for cpu in (parameters.cpuparams, parameters.cpuparams_batch):
        # Waiting threads that spin take the core from the rest of a small device.
        cpu.n_threads, cpu.poll = threads, 0
    parameters.n_gpu_layers, parameters.warmup = 0, False
    parameters.check_tensors = True
    # At this size the F32 cache and plain attention are exact, and faster than the F16 ones.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_ram_mib, parameters.n_ctx_checkpoints = 0, 0
    parameters.ui, parameters.use_jinja, parameters.n_threads_http = False, False, 1
    parameters.endpoint_slots, parameters.endpoint_metrics = False, True
    parameters.api_keys, parameters.cors_origins = [secrets.token_hex(32)], ""
    with _unreachable(parameters):
        try:
            server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise BundleError(
                f"llama.cpp (xllamacpp {xllamacpp.__version__}) cannot load the model"
                + (" with its adapter" if adapter else ""),
                where=str(path),
                fix="export it again, or install a newer xllamacpp",
            ) from error
    # The server's loop begins in a thread of its own. Freed before that, it would wait for the
    # loop's end for ever; what it answers itself proves that the loop is there.
    server.handle_metrics()
    return server


@contextlib.contextmanager
def _unreachable(parameters: Any) -> Iterator[None]:
    """Give the wheel's HTTP server an address that is gone once it is bound."""
    if sys.platform == "win32":
        parameters.hostnames, parameters.port = ["127.0.0.1"], 0
        yield
        return
    with tempfile.TemporaryDirectory(prefix="llm-") as folder:
        parameters.hostnames = [str(Path(folder) / "s.sock")]
        yield


def _native(grammar: str) -> str:
    """`grammar`, unless it is empty (llama.cpp takes that for none) or for LLGuidance.

    The wheel's LLGuidance fails open: what it cannot read or meet, it drops with a warning, and
    the answer goes on without any constraint. llama.cpp's own grammars fail closed.
    """
    if not grammar.strip():
        raise SpecError("an empty grammar", fix="GBNF, with a rule named root")
    if grammar.lstrip().startswith("%llguidance"):
        raise SpecError("a grammar of LLGuidance, which fails open", fix="GBNF")
    return grammar
