"""Execution providers of ONNX Runtime, with a session class in the place of one that has them.

No TensorRT is needed: what is asked of ONNX Runtime, and what is made of its answers, is tested.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from edgedistill.core.errors import SpecError
from edgedistill.runtime.bundle import Bundle
from edgedistill.runtime.generation.generator import Generator
from edgedistill.runtime.limits import bench
from edgedistill.runtime.loading import load
from edgedistill.runtime.networks import load_network
from edgedistill.runtime.verification import verify
from small_bundle import TEXTS, model_bytes

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
RealSession = onnxruntime.InferenceSession


def pretend(
    monkeypatch: pytest.MonkeyPatch, available: list[str], *, starts: bool = True
) -> list[list[str]]:
    """An ONNX Runtime with these providers; `starts`: whether they do. Returns what is asked."""
    asked: list[list[str]] = []

    class Session(RealSession):  # type: ignore[misc]
        def __init__(self, model: bytes, options: Any, providers: list[str]) -> None:
            asked.append(providers)
            super().__init__(model, options, providers=[CPU])

        def get_providers(self) -> list[str]:
            return asked[-1] if starts else [CPU]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return asked


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]),
        ([CPU, "AzureExecutionProvider", TENSORRT], [TENSORRT, CPU]),
    ],
)
def test_a_bundle_is_computed_by_the_provider_that_is_asked_for(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, available: list[str], expected: list[str]
) -> None:
    answers = load(bundle.path).predict(TEXTS)
    asked = pretend(monkeypatch, available)
    assert load(bundle.path, provider="tensorrt").predict(TEXTS) == answers
    assert verify(bundle.path, provider="tensorrt").num_examples > 0
    assert asked == [expected] * 2
    load(bundle.path)
    assert asked[-1] == [CPU]


def test_a_provider_that_is_not_there_is_refused_with_what_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pretend(monkeypatch, [CPU, "AzureExecutionProvider"])
    for use in (load, verify):
        with pytest.raises(SpecError, match=f"{TENSORRT} is not in ONNX Runtime") as caught:
            use(bundle.path, provider="tensorrt")
        assert f"{CPU}, AzureExecutionProvider" in caught.value.what
        assert "install onnxruntime-gpu" in caught.value.fix
    assert asked == []


def test_a_provider_that_falls_back_in_silence_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, [TENSORRT, CUDA, CPU], starts=False)
    with pytest.raises(SpecError, match=f"{TENSORRT} did not start, {CPU} took its place"):
        load(bundle.path, provider="tensorrt")


def test_unknown_names_and_files_of_another_kind_are_refused(bundle: Bundle) -> None:
    with pytest.raises(SpecError, match="the provider 'gpu'") as caught:
        load_network(model_bytes(), provider="gpu")
    assert caught.value.fix == "one of: cpu, tensorrt"
    with pytest.raises(SpecError, match="of a file for litert"):
        load_network(b"\x1c\0\0\0TFL3 and nothing more", provider="tensorrt")
    with pytest.raises(SpecError, match="of a bundle that writes"):
        Generator.from_files(bundle.manifest, {}, provider="tensorrt")


@pytest.mark.skipif(
    TENSORRT in onnxruntime.get_available_providers(), reason="TensorRT is there: nothing lacks"
)
def test_bench_says_in_its_own_words_what_its_processes_lack(bundle: Bundle) -> None:
    with pytest.raises(SpecError, match=f"{TENSORRT} is not in ONNX Runtime"):
        bench(Path(bundle.path), provider="tensorrt", num_samples=2, num_starts=1)
