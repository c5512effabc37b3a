"""The shipped runtime against its peers: the same tokens, how fast, how small."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
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
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.generation.json_grammar import json_grammar
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession
from edgedistill.runtime.generation.sessions import open_session
from edgedistill.runtime.loading import load
from edgedistill.runtime.measuring import alternate_ms

STORIES = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K" / "hf"
PROMPTS = ("Once upon a time", "Lily went to the", "The dog was", "One day, a boy named Tim", "A")
Row = tuple[str, tuple[float, float, float], str, str, bool]
KINDS = {
    "f32": 0.995, "f16": None, "q8_0": 0.98, "q5_0": None, "q4_0": None, "onnx_f32": 0.995,
    "onnx_int8": 0.98,
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
    """Tokens a second of the bundle, of transformers in fp32, and of plain llama.cpp, in turn."""
    limit = generator.settings.max_new_tokens
    counts: dict[str, list[int]] = {"bundle": [], "transformers": [], "llama.cpp": []}
    file = run.folder / "plain.gguf"
    file.write_bytes((run.bundle / "model.gguf").read_bytes())
    schema = generator.settings.schema
    grammar = json_grammar(dict(schema)) if schema else None
    with LlamaCppSession(file, threads=1, context=generator.settings.context) as plain:

        def bundle(i: int) -> None:
            counts["bundle"].append(generator.predict([texts[i]])[0].num_new_tokens)

        def transformers(i: int) -> None:
            counts["transformers"].append(
                len(greedy_ids(model, prompts[i], max_new_tokens=limit, end_id=end))
            )

        def llama_cpp(i: int) -> None:
            found = plain.generate(
                prompts[i], max_new_tokens=limit, grammar=grammar, with_ids=False
            )
            counts["llama.cpp"].append(found.num_new)

        items = list(range(min(60, len(texts))))
        timed = alternate_ms([bundle, transformers, llama_cpp], items)
    file.unlink()
    rates = {
        name: 1000.0 * sum(counts[name][-len(ms) :]) / float(ms.sum())
        for name, ms in zip(counts, timed, strict=True)
    }
    faster, plain_ratio = (rates["bundle"] / rates[n] for n in ("transformers", "llama.cpp"))
    weights = 4.0 * sum(p.numel() for p in model.parameters())
    smaller = (run.bundle / "model.gguf").stat().st_size / weights
    return [
        ("bundle, tokens a second against transformers fp32 generate, batch 1 (A B A B)",
         (faster,) * 3, "×", "≥ 10", faster >= 10),
        ("bundle, tokens a second against plain llama.cpp on the same file, same grammar",
         (plain_ratio,) * 3, "×", "≥ 0.95", plain_ratio >= 0.95),
        ("bundle, bytes of the model against fp32", (smaller,) * 3, "", "≤ 0.25", smaller <= 0.25),
        ("bundle, tokens a second", (rates["bundle"],) * 3, "1/s", "shown", True),
    ]  # fmt: skip


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


def _ratio_spread(same: np.ndarray, total: np.ndarray) -> tuple[float, float, float]:
    """Share of equal tokens with its 95 % bootstrap interval over prompts."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(same), size=(2000, len(same)))
    shares = same[drawn].sum(1) / total[drawn].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(same.sum() / total.sum()), float(low), float(high)
