"""Our decoding of the ONNX file against `transformers` on the weights: same tokens, same text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import small_llama
from edgedistill.export.onnx_language import write_onnx_language
from edgedistill.export.onnx_weights import ZERO, eight_bits
from edgedistill.runtime.generation.onnx_llama import OnnxLlamaSession
from edgedistill.runtime.generation.onnx_network import OnnxNetwork

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260K" / "hf"
"""Folder of the stories260K model in the format of `transformers` (1 MB, MIT)."""

PROMPTS = ["", "Once upon a time", "Lily and Tim"]


def generated(model: Any, prompt: list[int], num_new: int, **options: Any) -> list[int]:
    """The reference: ids that `transformers` generates after `prompt`."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_new, do_sample=False,
        pad_token_id=0, **options,
    )  # fmt: skip
    return [int(i) for i in out[0, len(prompt) :]]


def session_of(model: Any, folder: Path, kind: str = "onnx_f32") -> OnnxLlamaSession:
    """A model with the small tokenizer."""
    file = write_onnx_language(model, to=folder / "model.onnx", kind=kind)
    return OnnxLlamaSession(
        file.path.read_bytes(),
        tokenizer=small_llama.make_tokenizer().to_str(),
        context=small_llama.CONTEXT,
    )


@pytest.mark.skipif(not STORIES.is_dir(), reason="shared/models is not here")
@pytest.mark.parametrize("kind", ["onnx_f32", "onnx_int8"])
def test_stories_are_told_word_for_word(kind: str, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(STORIES, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    file = write_onnx_language(model, to=tmp_path / "model.onnx", kind=kind)
    session = OnnxLlamaSession(file.path.read_bytes(), tokenizer=tokenizer.to_str(), context=512)
    same = 0
    for prompt in PROMPTS:
        ids = [1, *tokenizer.encode(prompt, add_special_tokens=False).ids]
        expected = generated(model, ids, 60)
        told = session.generate(ids, max_new_tokens=60)
        assert told.ids is not None
        if kind == "onnx_f32":
            before, whole = tokenizer.decode(ids), tokenizer.decode(ids + expected)
            assert told.ids == tuple(expected)
            assert told.text.removeprefix(" ") == whole.removeprefix(before).removeprefix(" ")
        same += sum(a == b for a, b in zip(told.ids, expected, strict=False))
    assert same >= 0.8 * 60 * len(PROMPTS)


@pytest.mark.parametrize("changes", [*small_llama.VARIANTS, {"width": 40, "head_dim": 6}], ids=str)
def test_a_random_model_writes_the_same_tokens(changes: dict[str, Any], tmp_path: Path) -> None:
    model, tokenizer = small_llama.make_model(**changes), small_llama.make_tokenizer()
    session = session_of(model, tmp_path)
    lengths = []
    for text in small_llama.TEXTS:
        prompt = [small_llama.BOS, *tokenizer.encode(text).ids[:20]]
        expected = generated(model, prompt, 60)
        told = session.generate(prompt, max_new_tokens=60)
        assert told.ids == tuple(expected)
        whole = tokenizer.decode(expected)
        # A last token that the limit leaves amid a character is not told.
        assert whole.removesuffix("\ufffd") in (told.text, told.text.removesuffix("\ufffd"))
        lengths.append(len(expected))
    assert max(lengths) == 60


@pytest.mark.parametrize("changes", [{}, {"tied": False, "num_key_value_heads": 1}], ids=str)
@pytest.mark.parametrize("kind", ["onnx_f32", "onnx_int8"])
def test_reading_in_steps_is_reading_at_once(
    changes: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    network = OnnxNetwork(small_llama.write_small_onnx(tmp_path, kind, **changes).read_bytes())
    ids = np.random.default_rng(0).integers(0, network.vocab_size, (1, 50))
    whole, whole_cache = network.read(ids, network.empty(), every=True)
    parts, cache, at = [], network.empty(), 0
    for size in (1, 20, 7, 1, 1, 20):
        logits, cache = network.read(ids[:, at : at + size], cache, every=True)
        parts.append(logits)
        at += size
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, rtol=0, atol=1e-4)
    for grown, at_once in zip(cache, whole_cache, strict=True):
        np.testing.assert_allclose(grown, at_once, rtol=0, atol=1e-4)
    if kind == "onnx_f32":
        with torch.no_grad():
            expected = small_llama.make_model(**changes)(torch.tensor(ids)).logits.numpy()
        np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"tied": False, "width": 40, "head_dim": 6}], ids=str)
def test_eight_bits_are_the_model_of_the_rounded_weights(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    """What is left is the rounding of activations; a width of 40 does not fill its last block."""
    network = OnnxNetwork(
        small_llama.write_small_onnx(tmp_path, "onnx_int8", **changes).read_bytes()
    )
    model = small_llama.make_model(**changes)
    ids = np.random.default_rng(3).integers(0, network.vocab_size, (1, 60))
    found, _ = network.read(ids, network.empty(), every=True)
    with torch.no_grad():
        full = model(torch.tensor(ids)).logits.numpy()
        for parameter in model.parameters():
            if parameter.ndim == 2:
                blocks, scales = eight_bits(parameter.numpy())
                wide = (blocks.astype(np.float32) - ZERO) * scales[:, :, None]
                wide = wide.reshape(len(wide), -1)[:, : parameter.shape[1]]
                parameter.copy_(torch.from_numpy(wide))
        rounded = model(torch.tensor(ids)).logits.numpy()
    error, expected = np.abs(found - rounded).mean(), np.abs(full - rounded).mean()
    assert 0 < error < 1.2 * expected
    assert error < 0.05 * full.std()


def test_rows_of_a_batch_do_not_touch_each_other(tmp_path: Path) -> None:
    """Eight bits included: activations get their scales a token, not a batch."""
    network = OnnxNetwork(small_llama.write_small_onnx(tmp_path, "onnx_int8").read_bytes())
    ids = np.random.default_rng(1).integers(0, network.vocab_size, (4, 12))
    empty = [np.repeat(part, 4, axis=0) for part in network.empty()]
    together, _ = network.read(ids, empty)
    for row in range(4):
        alone, _ = network.read(ids[row : row + 1], network.empty())
        np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.5, -1.0])
def test_beams_end_where_those_of_transformers_do(
    num_beams: int, length_penalty: float, tmp_path: Path
) -> None:
    """Many end tokens, so that answers end at every length; some run into the limit."""
    model = small_llama.make_model(eos_token_id=[1, *range(20, 28)])
    session = session_of(model, tmp_path)
    lengths = set()
    for seed in range(6):
        prompt = np.random.default_rng(seed).integers(30, 300, 6).tolist()
        expected = generated(model, prompt, 24, num_beams=num_beams, length_penalty=length_penalty)
        told = session.generate(
            prompt, max_new_tokens=24, beams=num_beams, length_penalty=length_penalty
        )
        assert told.ids == tuple(expected)
        assert (told.finish == "length") == (expected[-1] not in model.config.eos_token_id)
        scores = session.score([*prompt, *expected])[len(prompt) - 1 :]
        assert told.doubt == pytest.approx(-scores.mean(), abs=1e-4)
        lengths.add(len(expected))
    # A high penalty leaves the longest alone.
    assert len(lengths) > 1 or length_penalty > 1


def test_scores_are_the_log_probabilities_of_the_reference(tmp_path: Path) -> None:
    model = small_llama.make_model()
    session = session_of(model, tmp_path)
    rng = np.random.default_rng(0)
    cases = [rng.integers(0, model.config.vocab_size, n).tolist() for n in (1, 2, 40)]
    cases.append(rng.integers(0, model.config.vocab_size, small_llama.CONTEXT).tolist())
    for ids in cases:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1].double()
        expected = logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]].numpy()
        scores = session.score(ids)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_long_prompts_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(small_llama.make_model(), tmp_path)
    ids = np.random.default_rng(2).integers(3, 300, 90).tolist()
    told, scores = session.generate(ids, max_new_tokens=20), session.score(ids)
    for room in ("onnx_network", "onnx_llama"):
        monkeypatch.setattr(f"edgedistill.runtime.generation.{room}.CHUNK", 32)
    assert session.generate(ids, max_new_tokens=20).ids == told.ids
    np.testing.assert_allclose(session.score(ids), scores, rtol=0, atol=1e-4)
