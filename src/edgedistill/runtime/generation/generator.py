"""The runner of generation bundles: prompts in, checked texts or abstentions out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedistill.core.errors import BundleError, SpecError
from edgedistill.runtime.generation.answer import GeneratedText, abstention
from edgedistill.runtime.generation.boundary import TextBoundary
from edgedistill.runtime.generation.completion import Completion, LanguageSession
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.sessions import open_session
from edgedistill.runtime.generation.settings import GenerationSettings
from edgedistill.runtime.generation.written import fault, schema_check
from edgedistill.runtime.input_check import InputCheck
from edgedistill.runtime.manifest import (
    LANGUAGE_MODEL,
    MANIFEST,
    MODEL_FILES,
    TOKENIZER,
    Manifest,
)
from edgedistill.runtime.providers import CPU
from edgedistill.runtime.tokenizer import Tokenizer

Turns = Sequence[tuple[str, str]]


class Generator:
    """A bundle, ready to answer prompts. Safe to call from several threads.

    Args:
        manifest: limits of the input, settings of generation.
        session, tokenizer, boundary: of the same bundle.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: LanguageSession,
        tokenizer: Tokenizer,
        boundary: TextBoundary,
    ) -> None:
        self.manifest = manifest
        self.session = session
        self.tokenizer = tokenizer
        self.boundary = boundary
        self.settings = GenerationSettings.from_json(manifest.generation)
        self._check = InputCheck(manifest.input, num_special=0)
        # Written once: for a schema of forty properties it takes as long as the answer itself.
        schema = self.settings.schema
        self.schema_check = schema_check(schema)
        self._grammar = json_grammar(dict(schema)) if schema is not None else None
        if self._grammar is not None:
            session.prepare(self._grammar)
        # Ids and log-probabilities cost a fifth of an answer, and only this score reads them.
        self._needs_ids = boundary.kind == "doubt"

    @classmethod
    def from_files(
        cls,
        manifest: Manifest,
        files: Mapping[str, bytes],
        *,
        threads: int | None = None,
        provider: str = CPU,
    ) -> Generator:
        """Build from the contents of a bundle's files; raises BundleError where they misfit, and
        SpecError of another provider: keys and values would cross to it and back a token."""
        if provider != CPU:
            raise SpecError(f"the provider {provider!r} of a bundle that writes", where="provider",
                            fix="leave it out: language models run on the CPU")  # fmt: skip
        settings = GenerationSettings.from_json(manifest.generation)
        tokenizer = Tokenizer(files[TOKENIZER], literal=True)
        name = next(name for name in MODEL_FILES["generation"] if name in files)
        if name == LANGUAGE_MODEL and settings.beams > 1:
            raise BundleError(
                f"{settings.beams} beams, which llama.cpp does not have",
                where=MANIFEST,
                fix="make the bundle again",
            )
        # llama.cpp reads a path. What is read is what was hashed, not what lies there later.
        with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
            path = Path(folder) / name
            path.write_bytes(files[name])
            session = open_session(
                path,
                tokenizer=tokenizer.to_json(),
                threads=threads or manifest.threads,
                context=settings.context,
            )
        if tokenizer.num_tokens > session.vocab_size:
            raise BundleError(
                f"the tokenizer has {tokenizer.num_tokens:,} tokens, the model "
                f"{session.vocab_size:,}",
                where=TOKENIZER,
                fix="make the bundle again",
            )
        return cls(manifest, session, tokenizer, TextBoundary.from_files(files))

    def predict(self, texts: Sequence[Any]) -> list[GeneratedText]:
        """One greedy answer for each prompt, in order.

        Whatever an input is, it gets an answer or an abstention with a reason, never an exception.

        Raises:
            TypeError: `texts` is one text instead of a sequence of texts.
        """
        if isinstance(texts, (str, bytes)):
            raise TypeError("predict takes a list of texts: predict([text])")
        return [self._predict_one(text) for text in texts]

    def answer(
        self,
        turns: Turns,
        *,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> GeneratedText:
        """The answer to a conversation of (role, content) turns that ends with the user's.

        Args:
            temperature: 0 is greedy, or with the beams that the task names.
            top_p: draw from the likeliest tokens that together have this probability.
            stop: texts that end the answer where they begin.
            on_text: is given the answer piece by piece as it is written, before it is checked.
        """
        strange = [role for role, _ in turns if role not in self.settings.frames]
        if strange:
            return abstention("wrong_type", f"this model was made without {strange[0]} turns")
        refused = self._check.refusal(turns[-1][1])
        if refused is not None:
            return abstention(refused.reason or "wrong_type", refused.detail)
        ids = self.prompt_ids(turns)
        limit = min(max_new_tokens or self.settings.max_new_tokens, self.settings.max_new_tokens)
        asked = self.tokenizer.encode(turns[-1][1])
        refused_here = self._prompt_refusal(len(asked), len(ids), limit)
        if refused_here is not None:
            return refused_here
        score = self.boundary.prompt_score(asked)
        if score is not None and not score <= self.boundary.threshold:
            return self._out_of_bounds(score, len(ids), 0)
        # What is written before the response is nobody's to read: then the answer comes whole.
        whole = self.settings.sections
        completion = self.complete(
            ids, limit, temperature=temperature, top_p=top_p, seed=seed, stop=stop,
            on_text=None if whole else on_text, with_ids=self._needs_ids,
        )  # fmt: skip
        found = self._judged(completion, score, limit)
        if whole and on_text is not None and found.text is not None:
            on_text(found.text)
        return found

    def write(self, text: str, on_text: Callable[[str], None]) -> int:
        """Answer a prompt piece by piece; the number of tokens written, 0 if it was refused."""
        return self.answer([("user", text)], on_text=on_text).num_new_tokens

    def prompt_ids(self, turns: Turns) -> list[int]:
        """Token ids of a conversation, up to where the answer begins."""
        return self.settings.prompt_ids(turns, self.tokenizer.encode)

    def complete(self, ids: Sequence[int], max_new_tokens: int, **options: Any) -> Completion:
        """What the model writes after token ids, by the schema of the task, without checks."""
        return self.session.generate(
            ids, max_new_tokens=max_new_tokens, grammar=self._grammar, begins_text=True,
            **self.settings.search(), **options,
        )  # fmt: skip

    def golden_row(self, text: str) -> dict[str, Any]:
        """A golden example: text, answer (None if abstained), reason (None if answered)."""
        found = self._predict_one(text)
        return {"text": text, "answer": found.text, "reason": found.reason}

    def golden_difference(self, row: Mapping[str, Any]) -> float:
        """0: a generated text is compared as a whole."""
        return 0.0

    def network_calls(self, texts: Sequence[str]) -> tuple[Callable[[Any], object], list[Any]]:
        """The model from token ids to text, for timing without tokenizer and checks."""
        limit = self.settings.max_new_tokens
        prompts = [self.prompt_ids([("user", text)]) for text in texts]
        return lambda ids: self.complete(ids, limit, with_ids=self._needs_ids), prompts

    def _predict_one(self, text: Any) -> GeneratedText:
        return self.answer([("user", text)])

    def _prompt_refusal(self, num_text: int, num_tokens: int, limit: int) -> GeneratedText | None:
        most = self.manifest.input.max_tokens
        if num_text > most:
            return abstention("too_long", f"{num_text} tokens, at most {most}")
        if num_tokens + limit > self.settings.context:
            return abstention(
                "too_long",
                f"{num_tokens} tokens and an answer of {limit} do not fit into the "
                f"{self.settings.context} that the model holds",
            )
        return None

    def _judged(self, completion: Completion, score: float | None, limit: int) -> GeneratedText:
        wrong = fault(
            completion.text,
            finished=completion.finish == "stop",
            max_new_tokens=limit,
            check=self.schema_check,
        )
        score = completion.doubt if score is None else score
        response = self.settings.response(completion.text)
        if response is None and wrong is None:
            wrong = ("unfinished", "the answer ends before its response")
        if wrong is not None:
            return abstention(
                *wrong, score, num_prompt=completion.num_prompt, num_new=completion.num_new
            )
        # Written so that a score that is not a number abstains too.
        if not score <= self.boundary.threshold:
            return self._out_of_bounds(score, completion.num_prompt, completion.num_new)
        return GeneratedText(
            response, False, None, "", score, completion.num_prompt, completion.num_new
        )

    def _out_of_bounds(self, score: float, num_prompt: int, num_new: int) -> GeneratedText:
        detail = f"score {score:.4g}, at most {self.boundary.threshold:.4g} is in bounds"
        return abstention("out_of_bounds", detail, score, num_prompt=num_prompt, num_new=num_new)
