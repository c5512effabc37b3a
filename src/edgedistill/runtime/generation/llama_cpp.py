"""A causal language model in llama.cpp, inside this process, through the wheel `xllamacpp`."""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgedistill.core.errors import BundleError, DataError, MissingExtra, SpecError
from edgedistill.runtime.generation.gguf_header import read_header
from edgedistill.runtime.generation.json_grammar import json_grammar

MAX_SEED = 2**32 - 2
"""llama.cpp takes the next one, 2^32 - 1, for "draw a seed"."""


@dataclass(frozen=True)
class Completion:
    """An answer.

    `text`: without the stop string, and without a last token that the limit leaves amid a
    character. `ids`: its tokens, with the end token if there was one; after
    a stop string they may say a little more than `text`. None where they were not asked for, and
    where several tokens spell one character: the wheel does not tell those.
    `num_prompt`, `num_new`: tokens read and generated. `finish`: "length" where the limit cut it.
    `prompt_ms`, `new_ms`: time for reading the prompt and for generating. `doubt`: mean of -log p
    of the answer's tokens, before any grammar; nan where ids were not asked for.
    """

    text: str
    ids: tuple[int, ...] | None
    num_prompt: int
    num_new: int
    finish: Literal["stop", "length"]
    prompt_ms: float
    new_ms: float
    doubt: float = float("nan")


class PromptTooLong(DataError):
    """A prompt and its answer do not fit into the context: a reason to abstain."""


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

    Raises:
        MissingExtra: `xllamacpp` is not installed.
        BundleError: damaged, of another architecture, or refused by llama.cpp.
        SpecError: `context` is more than the model was made for.
    """

    def __init__(self, path: Path, *, threads: int = 1, context: int) -> None:
        self.header = read_header(path)
        if not 1 <= context <= self.header.context:
            raise SpecError(
                f"a context of {context} tokens", fix=f"1 to {self.header.context} with this model"
            )
        if threads < 1:
            raise SpecError(f"{threads} threads", fix="1 or more")
        self.context = context
        self._server: Any = _open(path, threads, context)

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
        seed: int = 0,
        grammar: str | None = None,
        json_schema: dict[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
        with_ids: bool = True,
        begins_text: bool = False,
    ) -> Completion:
        """Continue `prompt_ids`.

        Args:
            max_new_tokens: at least 1; the end token counts.
            stop: texts that end the answer.
            temperature: 0 takes the likeliest token; above, tokens are drawn from the whole
                distribution, the same for the same `seed` (0 to `MAX_SEED`).
            grammar: GBNF text that the answer must follow. An answer cut by "length" may be a
                beginning of what the grammar allows.
            json_schema: instead of `grammar`; see `json_grammar` for what is supported.
            on_text: called with each piece of text as it appears; what it raises ends the answer
                and is raised here.
            with_ids: give the answer's ids too.
            begins_text: the answer is a text of its own, not the middle of one: the space by which
                a SentencePiece tokenizer begins every text is no part of it.

        Raises:
            PromptTooLong: prompt and `max_new_tokens` exceed the context.
            DataError: no prompt, or ids that the model does not have.
            SpecError: a grammar or schema that cannot be followed, or settings out of range.
        """
        self._require_prompt(prompt_ids, max_new_tokens)
        _require_settings(max_new_tokens, stop, temperature, seed)
        if json_schema is not None:
            if grammar is not None:
                raise SpecError("a grammar and a JSON schema", fix="give one of them")
            grammar = json_grammar(json_schema)
        request: dict[str, Any] = {
            "prompt": [int(i) for i in prompt_ids], "max_tokens": max_new_tokens,
            "temperature": temperature, "seed": seed, "stop": list(stop),
        }  # fmt: skip
        spaced = begins_text and self._begins_with_space()
        if grammar is not None:
            request["grammar"] = _spaced(_native(grammar)) if spaced else _native(grammar)
        if with_ids:
            request["logprobs"] = 1
        return self._complete(request, on_text, drop_space=spaced).completion()

    def score(self, ids: Sequence[int]) -> np.ndarray:
        """Log-probability (natural) of each id given those before it; float32 [len(ids) - 1].

        Exact, from the logits of the shipped file, but no faster than generating: the wheel
        tells no probabilities of a prompt, so each token is made the next answer by a bias, which
        what is reported does not contain. Tokens that spell a part of a character have no entry
        of their own and are looked up among all tokens, which takes longer.

        Raises:
            PromptTooLong, DataError: as for `generate`.
        """
        self._require_prompt(ids, 0)
        numbers = [int(i) for i in ids]
        return np.array(
            [self._score_next(numbers[:i], numbers[i]) for i in range(1, len(numbers))],
            dtype=np.float32,
        )

    def _score_next(self, prompt: list[int], token_id: int) -> float:
        """Log-probability of `token_id` after `prompt`."""
        request: dict[str, Any] = {
            "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": 1,
            "cache_prompt": True, "logit_bias": [[token_id, _FORCING]],
        }  # fmt: skip
        answer = self._complete(request, None)
        if answer.ids != [token_id]:
            whole = {"logprobs": self.header.vocab_size, "logit_bias": self._any_whole_token()}
            answer = self._complete(request | whole, None)
        return answer.probabilities[token_id]

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
        if not len(ids):
            raise DataError("an empty prompt", fix="begin with the model's first token")
        if min(ids) < 0 or max(ids) >= self.header.vocab_size:
            raise DataError(
                "a prompt with ids that the model does not have",
                fix=f"0 to {self.header.vocab_size - 1}: the model's own tokenizer",
            )
        if len(ids) + num_new > self.context:
            raise PromptTooLong(
                f"{len(ids)} tokens of prompt and {num_new} of answer exceed the context",
                fix=f"{self.context} together",
            )


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


def _open(path: Path, threads: int, context: int) -> Any:
    """The wheel's server with the model loaded."""
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtra("running a GGUF file", "llm") from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
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
    parameters.endpoint_slots = False
    parameters.api_keys, parameters.cors_origins = [secrets.token_hex(32)], ""
    with _unreachable(parameters):
        try:
            return xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise BundleError(
                f"llama.cpp (xllamacpp {xllamacpp.__version__}) cannot load the model",
                where=str(path),
                fix="export it again, or install a newer xllamacpp",
            ) from error


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


def _spaced(grammar: str) -> str:
    """The grammar of the same texts, or with a space before them."""
    rules = "\n" + grammar
    return rules.replace("\nroot ::=", '\nroot ::= " "? whole-text\nwhole-text ::=', 1).lstrip()


def _require_settings(
    max_new_tokens: int, stop: Sequence[str], temperature: float, seed: int
) -> None:
    wrong = {
        "max_new_tokens below 1": max_new_tokens < 1,
        "an empty stop string": not all(stop),
        "a temperature below 0": not 0 <= temperature < float("inf"),
        f"a seed outside 0 to {MAX_SEED}": not 0 <= seed <= MAX_SEED,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise SpecError(what)
