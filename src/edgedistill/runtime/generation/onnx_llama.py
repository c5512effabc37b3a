"""A causal language model in ONNX Runtime, with decoding of our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from edgedistill.core.errors import SpecError
from edgedistill.runtime.generation.beam_search import BeamSearch
from edgedistill.runtime.generation.completion import (
    Completion,
    maybe_spaced,
    require_prompt,
    require_settings,
)
from edgedistill.runtime.generation.constraint import Constraint, Constraints
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.onnx_network import CHUNK, Cache, OnnxNetwork
from edgedistill.runtime.generation.sampling import Sampler, log_softmax
from edgedistill.runtime.generation.token_text import TextStream, begins_with_space, token_bytes


class OnnxLlamaSession:
    """Runs one ONNX file of `export.onnx_language`. Safe to call from several threads.

    Prompts are token ids. The same request gets the same answer each time: nothing is kept.

    Args:
        model: the file's bytes.
        tokenizer: the JSON of the `tokenizers` tokenizer that the model was trained with.
        threads: threads for reading prompts and generating.
        context: tokens that prompt and answer may have together.

    Raises:
        BundleError: not such a file, or a tokenizer that does not fit it.
        SpecError: `context` is more than the model was made for.
    """

    def __init__(self, model: bytes, *, tokenizer: str, threads: int = 1, context: int) -> None:
        if threads < 1:
            raise SpecError(f"{threads} threads", fix="1 or more")
        network = OnnxNetwork(model, threads=threads)
        if not 1 <= context <= network.context:
            raise SpecError(
                f"a context of {context} tokens", fix=f"1 to {network.context} with this model"
            )
        self.context = context
        self.vocab_size = network.vocab_size
        self._spelled = token_bytes(tokenizer, network.vocab_size)
        self._begins_with_space = begins_with_space(tokenizer)
        self._tokenizer = tokenizer
        self._network: OnnxNetwork | None = network

    def close(self) -> None:
        """Free the model's memory; the session cannot be used afterwards."""
        self._network = None

    def __enter__(self) -> OnnxLlamaSession:
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
        """Continue `prompt_ids`; see `LanguageSession`."""
        network = self._open_network()
        self._require_prompt(prompt_ids, max_new_tokens)
        require_settings(
            max_new_tokens=max_new_tokens, stop=stop, temperature=temperature, top_p=top_p,
            seed=seed, beams=beams, length_penalty=length_penalty,
        )  # fmt: skip
        spaced = begins_text and self._begins_with_space
        constraint = self._constraint(grammar, json_schema, spaced=spaced)
        stream = TextStream(self._spelled, stop, on_text, drop_space=spaced)
        began = time.perf_counter()
        logits, cache = network.read_prompt(prompt_ids)
        read = time.perf_counter()
        if beams > 1 and temperature == 0:
            search = BeamSearch(
                network, self._spelled, beams, length_penalty, max_new_tokens, tuple(stop)
            )
            best = search.best(logits, cache, constraint)
            ids, total, ended = list(best.ids), best.total, _told(best.ids, network, stream)
        else:
            sampler = Sampler(temperature, top_p, np.random.default_rng(seed))
            ids, total, ended = _write(
                network, logits, cache, sampler, constraint, stream,
                max_new_tokens=max_new_tokens, with_log_p=with_ids,
            )  # fmt: skip
        stream.end(by_limit=not ended)
        return Completion(
            text=stream.text,
            ids=tuple(ids) if with_ids else None,
            num_prompt=len(prompt_ids),
            num_new=len(ids),
            finish="stop" if ended else "length",
            prompt_ms=1000 * (read - began),
            new_ms=1000 * (time.perf_counter() - read),
            doubt=-total / len(ids) if with_ids else float("nan"),
        )

    def prepare(self, grammar: str) -> None:
        """Read a grammar before the first answer needs it; see `LanguageSession`."""
        self._constraints.start(
            maybe_spaced(grammar) if self._begins_with_space else grammar
        ).allowed()

    def score(self, ids: Sequence[int]) -> np.ndarray:
        """Log-probability (natural) of each id given those before it; see `LanguageSession`."""
        found = [np.zeros(0, np.float32)]
        for following, logprobs in self._log_probabilities(ids):
            found.append(logprobs[np.arange(len(following)), following])
        return np.concatenate(found).astype(np.float32)

    def likeliest(self, ids: Sequence[int], num: int) -> list[dict[int, float]]:
        """What stands highest in place of each id but the first; see `LanguageSession`."""
        num = min(num, self.vocab_size)
        found = list[dict[int, float]]()
        for following, logprobs in self._log_probabilities(ids):
            highest = np.argpartition(-logprobs, num - 1, axis=-1)[:, :num]
            for row, token, first in zip(logprobs, following, highest, strict=True):
                found.append({int(i): float(row[i]) for i in (*first, token)})
        return found

    def _log_probabilities(self, ids: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A chunk at a time: ids [n], and the log-probabilities [n, vocabulary] in their place."""
        network = self._open_network()
        self._require_prompt(ids, 0)
        whole, cache = np.array([list(ids)], np.int64), network.empty()
        for start in range(0, len(ids) - 1, CHUNK):
            part = whole[:, start : min(start + CHUNK, len(ids) - 1)]
            logits, cache = network.read(part, cache, every=True)
            yield whole[0, start + 1 : start + 1 + part.shape[1]], log_softmax(logits[0])

    @cached_property
    def _constraints(self) -> Constraints:
        """Made when a grammar is first asked for: texts without one need no further library."""
        return Constraints(self._tokenizer, self.vocab_size, self._open_network().end_ids)

    def _constraint(
        self, grammar: str | None, json_schema: dict[str, Any] | None, *, spaced: bool
    ) -> Constraint | None:
        if json_schema is not None:
            if grammar is not None:
                raise SpecError("a grammar and a JSON schema", fix="give one of them")
            grammar = json_grammar(json_schema)
        if grammar is None:
            return None
        return self._constraints.start(maybe_spaced(grammar) if spaced else grammar)

    def _open_network(self) -> OnnxNetwork:
        if self._network is None:
            raise RuntimeError("the session is closed")
        return self._network

    def _require_prompt(self, ids: Sequence[int], num_new: int) -> None:
        require_prompt(ids, num_new, vocab_size=self.vocab_size, context=self.context)


def _told(ids: Sequence[int], network: OnnxNetwork, stream: TextStream) -> bool:
    """Give a whole answer to the stream; True where the text ended and was not cut."""
    has_end = ids[-1] in network.end_ids
    is_stopped = [stream.take(token) for token in (ids[:-1] if has_end else ids)]
    return has_end or any(is_stopped)


def _write(
    network: OnnxNetwork,
    logits: np.ndarray,
    cache: Cache,
    sampler: Sampler,
    constraint: Constraint | None,
    stream: TextStream,
    *,
    max_new_tokens: int,
    with_log_p: bool,
) -> tuple[list[int], float, bool]:
    """Token after token: (ids, sum of their log p before any grammar, whether the text ended)."""
    ids, total = list[int](), 0.0
    while True:
        open_to = logits
        if constraint is not None:
            open_to = np.where(constraint.allowed(), logits, -np.inf)
        token = sampler.choose(open_to)
        ids.append(token)
        if with_log_p:
            total += float(log_softmax(logits)[token])
        if token in network.end_ids or stream.take(token):
            return ids, total, True
        if len(ids) == max_new_tokens:
            return ids, total, False
        if constraint is not None:
            constraint.take(token)
        found, cache = network.read(np.array([[token]], np.int64), cache)
        logits = found[0, -1]
