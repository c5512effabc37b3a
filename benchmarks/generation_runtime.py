"""The shipped runtime against its peers: the same tokens, how fast, how small."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.files import read_json
from edgedistill.export.gguf import write_gguf
from edgedistill.export.onnx_language import write_onnx_language
from edgedistill.export.onnx_weights import WEIGHTS
from edgedistill.models.language.decoding import greedy_ids, log_probabilities
from edgedistill.models.language.llama import load_model
from edgedistill.pipeline.run import RunResult
from edgedistill.runtime.generation.completion import LanguageSession
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession
from edgedistill.runtime.generation.sessions import open_session
from edgedistill.runtime.loading import load
from edgedistill.runtime.measuring import alternate_ms

STORIES = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K" / "hf"
PROMPTS = ("Once upon a time", "Lily went to the", "The dog was", "One day, a boy named Tim", "A")
Spread = tuple[float, float, float]
Row = tuple[str, Spread, str, str, bool]
#: Prompts of a round, and rounds, where speeds are compared.
NUM_TIMED, NUM_ROUNDS = 60, 15
KINDS = {
    "f32": 0.995, "f16": None, "q8_0_f16": 0.98, "q8_0": 0.98, "q5_1": None, "q5_0": None,
    "q4_0": None, "onnx_f32": 0.995, "onnx_int8": None,
}  # fmt: skip


def runtime_rows(run: RunResult, *, num_prompts: int) -> list[Row]:
    """Parity by type of weights, and speed and bytes of the bundle."""
    student = _stage(run, "student")
    model = load_model(student)
    generator = load(run.bundle)
    assert isinstance(generator, Generator)
    tests = read_json(_stage(run, "data") / "conversations.json")["test"][:num_prompts]
    texts = [row["turns"][0]["content"] for row in tests]
    prompts = [generator.prompt_ids([("user", text)]) for text in texts]
    limit, end = generator.settings.max_new_tokens, generator.settings.end[0]
    wanted = [greedy_ids(model, ids, max_new_tokens=limit, end_id=end) for ids in prompts]
    full = [ids + new for ids, new in zip(prompts, wanted, strict=True)]
    reference = [log_probabilities(model, ids)[len(p) - 1 :] for ids, p in zip(full, prompts,
                 strict=True)]  # fmt: skip
    rows = []
    for kind, bar in KINDS.items():
        rows += _parity(run, model, student, kind, bar, prompts, wanted, full, reference)
    rows += _speed(run, generator, model, texts, prompts, end)
    return rows


def _parity(
    run: RunResult, model: Any, student: Path, kind: str, bar: float | None,
    prompts: Sequence[list[int]], wanted: Sequence[list[int]], full: Sequence[list[int]],
    reference: Sequence[np.ndarray],
) -> list[Row]:  # fmt: skip
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_stage(run, "teacher") / "tokenizer.json"))
    file = _written(model, tokenizer, run.folder, kind)
    context, limit = model.config.max_position_embeddings, max(len(new) for new in wanted)
    same, total, scores = [], [], []
    with open_session(file, tokenizer=tokenizer.to_str(), context=context) as session:
        for ids, new, whole in zip(prompts, wanted, full, strict=True):
            said = session.generate(ids, max_new_tokens=limit)
            # Where several tokens spell one character the wheel tells no ids: by the text then.
            is_same = said.text == tokenizer.decode(new)
            found = list(said.ids if said.ids is not None else new if is_same else ())
            equal = next((i for i, (a, b) in enumerate(zip(found, new, strict=False)) if a != b),
                         min(len(found), len(new)))  # fmt: skip
            same.append(equal)
            total.append(max(len(found), len(new)))
            scores.append(session.score(whole)[len(ids) - 1 :])
    file.unlink()
    share = _ratio_spread(np.array(same), np.array(total))
    lost = np.concatenate(reference).mean() - np.concatenate(scores).mean()
    change = float(np.exp(lost) - 1.0)
    said = f"≥ {bar:.1%}" if bar else "shown"
    name = f"{kind} against transformers, {len(prompts)} prompts"
    return [
        (f"greedy tokens equal, {name}", share, "", said, bar is None or share[0] >= bar),
        (f"perplexity of transformers' answers, relative change, {name}", (change,) * 3, "",
         "shown", True),
    ]  # fmt: skip


def _speed(
    run: RunResult, generator: Generator, model: Any, texts: Sequence[str],
    prompts: Sequence[list[int]], end: int,
) -> list[Row]:  # fmt: skip
    """Tokens a second of the bundle, of plain llama.cpp on its file, of the student in eight-bit
    ONNX, and of student and teacher in transformers, two at a time in turn; and their bytes."""
    from tokenizers import Tokenizer

    limit, schema = generator.settings.max_new_tokens, generator.settings.schema
    grammar = json_grammar(dict(schema)) if schema else None
    tokenizer = Tokenizer.from_file(str(_stage(run, "teacher") / "tokenizer.json"))
    shipped = next(path for path in run.bundle.iterdir() if path.suffix == ".gguf")
    plain_file = run.folder / "plain.gguf"
    plain_file.write_bytes(shipped.read_bytes())
    onnx_file = _written(model, tokenizer, run.folder, "onnx_int8")
    teacher = load_model(_stage(run, "teacher"))

    def runtime(session: LanguageSession) -> Callable[[int], int]:
        return lambda i: (
            session.generate(
                prompts[i], max_new_tokens=limit, grammar=grammar, with_ids=False
            ).num_new
        )

    def transformers(peer: Any) -> Callable[[int], int]:
        return lambda i: len(greedy_ids(peer, prompts[i], max_new_tokens=limit, end_id=end))

    context = generator.settings.context
    items = range(min(NUM_TIMED, len(texts)))
    with (
        LlamaCppSession(plain_file, threads=1, context=context) as plain,
        open_session(onnx_file, tokenizer=tokenizer.to_str(), context=context) as onnx,
    ):
        bundle = Timed(lambda i: generator.predict([texts[i]])[0].num_new_tokens, items)
        own, of_teacher = Timed(transformers(model), items), Timed(transformers(teacher), items)
        ratios = {
            "student": bundle.faster_than(own),
            "teacher": bundle.faster_than(of_teacher),
            "llama.cpp": bundle.faster_than(Timed(runtime(plain), items)),
            "ONNX": Timed(runtime(onnx), items).faster_than(own),
        }
    small, big = (4.0 * sum(p.numel() for p in peer.parameters()) for peer in (model, teacher))
    num_bytes, onnx_bytes = shipped.stat().st_size, onnx_file.stat().st_size
    plain_file.unlink()
    onnx_file.unlink()
    rows: list[Row] = []
    for name, peer, fp32 in (("student", "its own", small), ("teacher", "the teacher's", big)):
        faster, smaller = ratios[name], num_bytes / fp32
        rows += [
            (f"bundle, tokens a second against {peer} fp32 transformers generate (A B A B)",
             faster, "×", "≥ 10", faster[0] >= 10),
            (f"bundle, bytes of the model against {peer} fp32 weights", (smaller,) * 3, "",
             "≤ 0.25", smaller <= 0.25),
        ]  # fmt: skip
    ratio, rate, onnx_share = ratios["llama.cpp"], bundle.rate(), onnx_bytes / small
    rows += [
        ("bundle, tokens a second against plain llama.cpp on the same file, same grammar", ratio,
         "×", "≥ 0.95", ratio[0] >= 0.95),
        ("bundle, tokens a second", rate, "1/s", "shown", True),
        ("the student as onnx_int8, tokens a second against its own fp32 transformers generate",
         ratios["ONNX"], "×", "shown (≥ 10 asked)", True),
        ("the student as onnx_int8, bytes against its own fp32 weights", (onnx_share,) * 3, "",
         "shown (≤ 0.25 asked)", True),
    ]  # fmt: skip
    return rows


class Timed:
    """Something that writes, timed in turn with others.

    Args:
        write: answers the prompt of a number; returns how many tokens it wrote.
        items: the numbers of the prompts.
    """

    def __init__(self, write: Callable[[int], int], items: Sequence[int]) -> None:
        self._write = write
        self._items = items
        self._num_new: list[int] = []
        self._rates: list[np.ndarray] = []

    def __call__(self, item: int) -> None:
        self._num_new.append(self._write(item))

    def faster_than(self, peer: Timed) -> Spread:
        """Its tokens a second over the peer's: the median of rounds, the least and the most.

        The two take turns alone: what comes behind a third, larger one would find the caches full
        of that one's weights.
        """
        timed = alternate_ms([self, peer], self._items, rounds=NUM_ROUNDS)
        mine, theirs = (one._by_round(ms) for one, ms in zip((self, peer), timed, strict=True))
        return _middle(mine / theirs)

    def rate(self) -> Spread:
        """Its tokens a second over all rounds: the median, the least and the most."""
        return _middle(np.concatenate(self._rates))

    def _by_round(self, ms: np.ndarray) -> np.ndarray:
        """Tokens a second of each round of the last calls."""
        shape = (-1, len(self._items))
        num_new = np.array(self._num_new[-len(ms) :]).reshape(shape)
        self._rates.append(1000.0 * num_new.sum(1) / ms.reshape(shape).sum(1))
        return self._rates[-1]


def _middle(values: np.ndarray) -> Spread:
    return float(np.median(values)), float(values.min()), float(values.max())


def stories_row() -> Row:
    """stories260K in transformers, GGUF F32 and our own decoding: the same text, character by
    character."""
    from tokenizers import Tokenizer

    model = load_model(STORIES)
    tokenizer = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    same = []
    for kind in ("f32", "onnx_f32"):
        file = _written(model, tokenizer, Path("runs"), kind)
        with open_session(file, tokenizer=tokenizer.to_str(), context=256) as session:
            for prompt in PROMPTS:
                ids = tokenizer.encode(prompt).ids
                wanted = greedy_ids(model, ids, max_new_tokens=100, end_id=2)
                text = tokenizer.decode(ids + wanted)[len(tokenizer.decode(ids)) :]
                same.append(session.generate(ids, max_new_tokens=100).text == text)
        file.unlink()
    share = float(np.mean(same))
    claim = (
        f"stories260K, {len(PROMPTS)} greedy texts of 100 tokens the same in transformers, GGUF "
        "and our decoding"
    )
    return claim, (share,) * 3, "", "= 1", share == 1.0


def chunked_memory() -> Row:
    """Peak memory of the chunked divergence over the naive one's, each in a fresh process."""
    code = (
        "import sys, torch; from edgedistill.train.distill.chunked import chunked_divergence;"
        "from edgedistill.train.distill.divergences import forward_kl;"
        "torch.set_num_threads(1); torch.manual_seed(0); n, d, v = 1024, 64, 32000;"
        "h = torch.randn(n, d, requires_grad=True); w = torch.randn(v, d, requires_grad=True);"
        "th, tw = torch.randn(n, d), torch.randn(v, d);"
        "status = lambda: int([l.split()[1] for l in open('/proc/self/status') if "
        "l.startswith('VmHWM')][0]); base = status();"
        "loss = chunked_divergence(h, w, th, tw, divergence=forward_kl, chunk_size=64) "
        "if sys.argv[1] == 'chunked' else forward_kl((h @ w.T).log_softmax(-1), "
        "(th @ tw.T).log_softmax(-1)).mean(); loss.backward(); print(status() - base)"
    )
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    taken = {
        kind: int(subprocess.run([sys.executable, "-c", code, kind], check=True, text=True,
                  capture_output=True, env=environment).stdout)
        for kind in ("chunked", "naive")
    }  # fmt: skip
    share = taken["chunked"] / taken["naive"]
    claim = "chunked KL, 1,024 × 32,000: peak memory against the naive one"
    return claim, (share,) * 3, "", "≤ 0.125", share <= 0.125


def _written(model: Any, tokenizer: Any, folder: Path, kind: str) -> Path:
    """A model as a file of one type of weights."""
    if kind in WEIGHTS:
        return write_onnx_language(model, to=folder / f"{kind}.onnx", kind=kind).path
    return write_gguf(model, tokenizer, to=folder / f"{kind}.gguf", kind=kind).path


def _stage(run: RunResult, name: str) -> Path:
    return next(stage.folder for stage in run.stages if stage.name == name)


def _ratio_spread(same: np.ndarray, total: np.ndarray) -> Spread:
    """Share of equal tokens with its 95 % bootstrap interval over prompts."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(same), size=(2000, len(same)))
    shares = same[drawn].sum(1) / total[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(same.sum() / total.sum()), float(low), float(high)
