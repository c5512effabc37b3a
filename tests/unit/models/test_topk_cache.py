"""What is kept of a teacher: exact to half precision, small, and whole after a kill."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import edgedistill
from edgedistill.core.errors import ModelError
from edgedistill.models.teachers.topk_cache import (
    RECORDS_FILE,
    STATE_FILE,
    TopK,
    TopKWriter,
    open_topk,
    topk_of,
)


def said(num_rows: int, num_tokens: int = 50, k: int = 4, seed: int = 0) -> TopK:
    rng = torch.Generator().manual_seed(seed)
    return topk_of(torch.randn(num_rows, num_tokens, generator=rng) * 3, k)


def same(a: TopK, b: TopK) -> bool:
    pairs = ((a.ids, b.ids), (a.logprobs, b.logprobs), (a.tail, b.tail))
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in pairs)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 20), st.integers(0, 99))
def test_the_likeliest_and_the_rest(num_tokens: int, k: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, num_tokens)).astype(np.float32) * scale
    found = topk_of(torch.from_numpy(logits), k)
    wide = logits.astype(np.float64)
    p = np.exp(wide - wide.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    order = np.argsort(-p, axis=-1, kind="stable")[:, :k]
    assert (found.ids == order).all()
    kept = np.log(np.take_along_axis(p, order, -1))
    error = np.abs(found.logprobs.astype(np.float64) - kept)
    assert (error <= np.abs(kept) / 2048 + 1e-5).all()
    rest = np.array([np.delete(row, ids).sum() for row, ids in zip(p, order, strict=True)])
    if k >= num_tokens:
        assert (found.tail == -np.inf).all()
    else:
        np.testing.assert_allclose(found.tail, np.log(rest), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("num_tokens", "kind", "size_bytes"),
    [(32_000, np.uint16, 260), (65_536, np.uint16, 260), (65_537, np.uint32, 388)],
)
def test_bytes_a_token(tmp_path: Path, num_tokens: int, kind: type, size_bytes: int) -> None:
    logits = torch.zeros(2, num_tokens)
    logits[:, -1] = 9.0  # the last id must not wrap round
    found = topk_of(logits, 64)
    assert found.ids.dtype == kind
    assert found.ids[:, 0].tolist() == [num_tokens - 1] * 2
    assert found.bytes_per_token == size_bytes <= 400
    writer = TopKWriter(tmp_path, k=64, vocabulary_size=num_tokens)
    writer.append(found)
    assert writer.finish().bytes_per_token == size_bytes
    assert (tmp_path / RECORDS_FILE).stat().st_size == 2 * size_bytes


def test_a_sure_teacher_keeps_its_tail() -> None:
    # 1 - p would be 0 in float32 here, and its logarithm -inf.
    found = topk_of(torch.tensor([[40.0, 0.0, 0.0]]), 1)
    assert found.logprobs.tolist() == [[0.0]]
    assert float(found.tail[0]) == pytest.approx(math.log(2) - 40, rel=1e-6)


def test_masked_tokens_are_never_said_but_stored_finite() -> None:
    found = topk_of(torch.tensor([[1.0, -torch.inf, 0.0, -torch.inf]]), 3)
    assert np.isfinite(found.logprobs).all()
    assert found.logprobs[0, 2] == np.finfo(np.float16).min
    assert found.tail[0] == -np.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_distribution_is_refused(bad: float) -> None:
    logits = torch.zeros(5, 7)
    logits[3, 6] = bad
    with pytest.raises(ModelError, match="not finite in 1 of 5 rows") as caught:
        topk_of(logits, 2)
    assert caught.value.where == "row 3"
    with pytest.raises(ModelError, match="not finite"):
        topk_of(torch.full((1, 3), -torch.inf), 2)


def test_half_precision_logits_are_widened_first() -> None:
    logits = (torch.randn(4, 9) * 3).bfloat16()
    assert same(topk_of(logits, 3), topk_of(logits.float(), 3))
    assert len(topk_of(torch.zeros(0, 9), 3)) == 0
    with pytest.raises(ValueError, match="at least"):
        topk_of(logits, 0)


def test_rows_come_back_in_the_order_asked(tmp_path: Path) -> None:
    writer = TopKWriter(tmp_path, k=4, vocabulary_size=50)
    whole = said(10)
    for start in (0, 4, 8):
        writer.append(whole.rows(np.arange(start, min(start + 4, 10))))
    stored = writer.finish()
    assert len(stored) == 10
    assert same(stored, whole)
    some = stored.rows([7, 0, 7])
    assert same(some, whole.rows([7, 0, 7]))
    assert type(some.ids) is np.ndarray  # a copy, free of the file
    assert len(stored.rows([])) == 0
    with pytest.raises(IndexError):
        stored.rows([10])
    with pytest.raises(ValueError, match="read-only"):
        stored.tail[0] = 0.0


def test_a_teacher_that_knows_less_than_k_tokens(tmp_path: Path) -> None:
    writer = TopKWriter(tmp_path, k=64, vocabulary_size=50)
    writer.append(said(3, k=64))
    stored = writer.finish()
    assert stored.ids.shape == (3, 50)
    assert (stored.tail == -np.inf).all()


def test_a_continued_cache_forgets_what_was_half_written(tmp_path: Path) -> None:
    writer = TopKWriter(tmp_path, k=4, vocabulary_size=50)
    writer.append(said(5, seed=1))
    with (tmp_path / RECORDS_FILE).open("ab") as stream:
        stream.write(b"half of a part")
    with pytest.raises(ModelError, match="stopped after 5 tokens"):
        open_topk(tmp_path)
    again = TopKWriter(tmp_path, k=4, vocabulary_size=50)
    assert (again.num_parts, again.num_tokens) == (1, 5)
    again.append(said(2, seed=2))
    stored = again.finish()
    assert same(stored.rows(range(5)), said(5, seed=1))
    assert same(stored.rows([5, 6]), said(2, seed=2))


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from edgedistill.models.teachers import topk_cache
from edgedistill.models.teachers.topk_cache import TopKWriter, topk_of

writer = TopKWriter(Path(sys.argv[1]), k=4, vocabulary_size=50)
def state(*args, **kwargs):  # the records are written, the state is not
    os.kill(os.getpid(), signal.SIGKILL)
for part in range(3):
    if part == 2:
        topk_cache.write_json = state
    rng = torch.Generator().manual_seed(part)
    writer.append(topk_of(torch.randn(5, 50, generator=rng) * 3, 4))
"""


def test_a_killed_run_goes_on_after_its_last_whole_part(tmp_path: Path) -> None:
    source = str(Path(edgedistill.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    writer = TopKWriter(tmp_path, k=4, vocabulary_size=50)
    assert (writer.num_parts, writer.num_tokens) == (2, 10)
    for part in range(writer.num_parts, 4):
        writer.append(said(5, seed=part))
    stored = writer.finish()
    for part in range(4):
        assert same(stored.rows(range(5 * part, 5 * part + 5)), said(5, seed=part))


def test_nothing_to_store_is_a_cache_too(tmp_path: Path) -> None:
    assert len(TopKWriter(tmp_path, k=4, vocabulary_size=50).finish()) == 0
    assert open_topk(tmp_path).rows([]).ids.shape == (0, 4)


def test_other_settings_and_damage_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no cache"):
        open_topk(tmp_path)
    writer = TopKWriter(tmp_path, k=4, vocabulary_size=50)
    with pytest.raises(ValueError, match="uint16"):
        writer.append(said(2, k=3))
    with pytest.raises(ValueError, match="uint32"):
        writer.append(said(1, num_tokens=70_000))
    writer.append(said(2))
    writer.finish()
    with pytest.raises(ModelError, match="k 4 and 50 tokens, not 5 and 50"):
        TopKWriter(tmp_path, k=5, vocabulary_size=50)
    os.truncate(tmp_path / RECORDS_FILE, 7)
    with pytest.raises(ModelError, match="damaged"):
        open_topk(tmp_path)
    with pytest.raises(ModelError, match="damaged"):
        TopKWriter(tmp_path, k=4, vocabulary_size=50)
    for text in ("{", "[]", '{"k": 4}', '{"k": "x", "vocabulary_size": 5}'):
        (tmp_path / STATE_FILE).write_text(text)
        with pytest.raises(ModelError, match="damaged"):
            open_topk(tmp_path)
