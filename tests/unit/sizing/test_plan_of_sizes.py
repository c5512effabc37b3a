"""Schemes, cache, parts and budgets of a plan, against arithmetic by hand and real arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edgedistill.core.errors import SpecError
from edgedistill.export.gguf_quantise.matrix import BLOCK_TYPES, quantise
from edgedistill.models.language.config import LanguageModelConfig
from edgedistill.sizing.architectures.catalogue import network_of
from edgedistill.sizing.cache import PRECISIONS, cache_bytes
from edgedistill.sizing.config_file import parsed, read_config
from edgedistill.sizing.formats import FOREIGN_BLOCKS, Awq, Grouped, Palette, block_bytes
from edgedistill.sizing.network import Network, Tensor
from edgedistill.sizing.parts import Adapters, adapters, router
from edgedistill.sizing.plan import Wishes, make_plan
from edgedistill.sizing.schemes import SCHEMES, scheme
from edgedistill.sizing.stored import array, safetensors_bytes
from small_config import network

#: On a busy machine drawing examples is slow, too.
BUSY = [HealthCheck.too_slow]


def matrix(rows: int, width: int) -> Tensor:
    return Tensor("m.weight", (rows, width), "mlp")


NAMES = st.text('aé漢😀."_0\\', min_size=1, max_size=12)
KINDS = st.tuples(
    st.sampled_from(["F32", "F16", "U8", "I8", "I64", "I32"]),
    st.lists(st.integers(1, 5), max_size=3).map(tuple),
)


@settings(max_examples=40, suppress_health_check=BUSY)
@given(st.dictionaries(NAMES, KINDS, min_size=1, max_size=8))
def test_a_safetensors_file_has_the_bytes_that_are_planned(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, tuple[str, tuple[int, ...]]]
) -> None:
    dtypes = {"F32": "f4", "F16": "f2", "U8": "u1", "I8": "i1", "I64": "i8", "I32": "i4"}
    arrays = {name: np.zeros(shape, dtypes[kind]) for name, (kind, shape) in kinds.items()}
    file = tmp_path_factory.mktemp("file") / "m.safetensors"
    save_file(arrays, file, metadata={"format": "pt"})
    planned = [array(name, kind, shape) for name, (kind, shape) in kinds.items()]
    assert safetensors_bytes(planned) == file.stat().st_size


@settings(max_examples=25, suppress_health_check=BUSY)
@given(st.sampled_from(sorted(BLOCK_TYPES)), st.integers(1, 4), st.integers(1, 3))
def test_blocks_have_the_bytes_that_the_quantiser_writes(kind: str, rows: int, blocks: int) -> None:
    width = blocks * BLOCK_TYPES[kind].width
    written = quantise(np.ones((rows, width), np.float32), kind)
    assert block_bytes(kind, matrix(rows, width)) == (kind, written.nbytes)


def test_blocks_of_llama_cpp_are_as_large_as_it_says() -> None:
    gguf = pytest.importorskip("gguf")
    for kind, sizes in FOREIGN_BLOCKS.items():
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]] == sizes
        assert block_bytes(kind, matrix(2, 512)) == (kind, 4 * sizes[1])
        assert block_bytes(kind, matrix(2, 96))[0] == "Q4_0"  # a row that 256 does not divide


@settings(max_examples=40, suppress_health_check=BUSY)
@given(st.integers(1, 40), st.integers(1, 300), st.sampled_from([4, 8]),
       st.sampled_from([None, 32, 128]))  # fmt: skip
def test_groups_are_counted_as_they_are_packed(
    rows: int, width: int, bits: int, group: int | None
) -> None:
    stored = {each.name: each for each in Grouped(bits, group, "F16", zero_bits=4)(
        matrix(rows, width))}  # fmt: skip
    codes = np.zeros((rows, width), np.uint8)
    packed = codes if bits == 8 else np.zeros((rows, len(range(0, width, 2))), np.uint8)
    groups = len(range(0, width, group or width))
    assert stored["m.weight"].size_bytes == packed.nbytes
    assert stored["m.weight.scales"].size_bytes == np.zeros((rows, groups), np.float16).nbytes
    assert stored["m.weight.zeros"].size_bytes == rows * len(range(0, groups, 2))


def test_awq_is_packed_as_autoawq_does_and_leaves_the_rest() -> None:
    kinds = {each.name: (each.kind, each.shape) for each in Awq()(matrix(1024, 4096))}
    assert kinds == {
        "m.qweight": ("I32", (4096, 128)), "m.qzeros": ("I32", (32, 128)),
        "m.scales": ("F16", (32, 1024)),
    }  # fmt: skip
    assert [each.kind for each in Awq()(matrix(1024, 100))] == ["F16"]
    assert [each.kind for each in Awq()(matrix(9, 128))] == ["F16"]
    stored = scheme("awq_g128").store(read_of("llama-3.1-8b"))
    by_role = stored.by_role()
    assert by_role["embedding"] == by_role["head"] == 2 * 128_256 * 4096
    linear = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 14_336)
    assert by_role["attention"] + by_role["mlp"] == linear * (4 + 16 / 128 + 4 / 128) / 8


def read_of(name: str) -> Network:
    return network_of(read_config(name))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_palette_is_indices_and_values(bits: int) -> None:
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 1 << bits, 33 * 65).astype(np.uint8)
    packed = np.packbits(np.unpackbits(indices[:, None], axis=1)[:, 8 - bits :].ravel())
    stored = Palette(bits)(matrix(33, 65))
    assert [each.size_bytes for each in stored] == [packed.nbytes, 4 << bits]
    assert [each.kind for each in Palette(bits)(matrix(2, 3))] == ["F32"]


def test_the_product_s_own_llamas_have_the_parameters_it_counts() -> None:
    own = LanguageModelConfig(hidden_size=64, num_layers=3, num_heads=4, num_kv_heads=2)
    planned = network(
        vocab_size=500, hidden_size=64, num_hidden_layers=3, intermediate_size=own.feed_forward,
        tie_word_embeddings=True,
    )  # fmt: skip
    assert planned.num_parameters == own.num_parameters(500)
    assert planned.is_tied
    assert planned.head_name == "model.embed_tokens.weight"


def test_the_head_of_a_gguf_file_is_the_tied_table() -> None:
    tied = SCHEMES["gguf_q4_k"].store(network(
        hidden_size=256, intermediate_size=256, tie_word_embeddings=True)).by_tensor  # fmt: skip
    kinds = {tensor.name: stored[0].kind for tensor, stored in tied}
    assert kinds["model.embed_tokens.weight"] == "Q6_K"
    assert kinds["model.layers.0.mlp.up_proj.weight"] == "Q6_K"  # the first block has more
    assert kinds["model.layers.1.mlp.up_proj.weight"] == "Q4_K"
    assert kinds["model.norm.weight"] == "F32"


def test_a_mix_by_role() -> None:
    one = network()
    sized = scheme("embedding=int8,mlp=int4_g32").store(one)
    kinds = {tensor.role: stored[0].kind for tensor, stored in sized.by_tensor}
    assert kinds == {"embedding": "U8", "vector": "F16", "attention": "F16", "mlp": "U8",
                     "head": "F16"}  # fmt: skip
    assert sum(sized.by_role().values()) + sized.overhead_bytes == sized.size_bytes
    for wrong in ("mlp=int3", "legs=int8", "mlp=int8,mlp=int8", "mlp=", "=int8", "mlp"):
        with pytest.raises(SpecError, match=r"in the mix|unknown scheme"):
            scheme(wrong)


@settings(max_examples=40, suppress_health_check=BUSY)
@given(st.integers(1, 10**12), st.sampled_from(PRECISIONS))
def test_the_cache_grows_with_the_context_and_no_further_than_windows(
    context: int, precision: str
) -> None:
    gemma, llama = read_of("gemma-2-2b"), read_of("llama-3.1-8b")
    bits = {"f32": 32, "f16": 16, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5}
    a_token = 2 * 8 * 128 * 32 * bits[precision] / 8
    assert cache_bytes(llama, context, precision) == int(a_token * context)
    a_layer = 2 * 4 * 256 * bits[precision] / 8
    kept = 13 * context + 13 * min(context, 4096)
    assert cache_bytes(gemma, context, precision) == int(a_layer * kept)


def test_a_cache_whose_rows_blocks_do_not_divide_stays_in_f16() -> None:
    narrow = network(num_key_value_heads=1)  # 8 numbers a token
    assert cache_bytes(narrow, 10, "q4_0") == cache_bytes(narrow, 10, "f16") > 0
    assert cache_bytes(read_of("all-minilm-l6-v2"), 512, "f16") == 0


def test_adapters_and_router_are_counted_with_their_headers(tmp_path: Path) -> None:
    one = network()
    part = adapters(one, Adapters(4, ("q_proj", "down_proj"), count=2, kind="fp32"))
    arrays = {}
    for index in range(3):
        place = f"base_model.model.model.layers.{index}"
        for name, rows, columns in (("self_attn.q_proj", 32, 32), ("mlp.down_proj", 32, 48)):
            arrays[f"{place}.{name}.lora_A.weight"] = np.zeros((4, columns), np.float32)
            arrays[f"{place}.{name}.lora_B.weight"] = np.zeros((rows, 4), np.float32)
    save_file(arrays, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert part.size_bytes == 2 * (tmp_path / "a.safetensors").stat().st_size
    assert part.num_parameters == 2 * sum(each.size for each in arrays.values())
    assert router((768, 256, 128, 32)).num_parameters == 233_888
    for wrong in (Adapters(0), Adapters(1, ("legs",)), Adapters(1, kind="int4"),
                  Adapters(1, count=0)):  # fmt: skip
        with pytest.raises(SpecError):
            adapters(one, wrong)
    for widths in ((), (5,), (5, 0), (-1, 4)):
        with pytest.raises(SpecError):
            router(widths)


def test_a_budget_keeps_what_fits_and_ranks_by_bits() -> None:
    plan = make_plan("tinyllama-1.1b", Wishes(max_mb=700, max_memory_mb=900, context=2048))
    assert plan.feasible
    assert plan.nearest is None
    assert plan.chosen == plan.feasible[0]
    bits = [each.bits_per_weight for each in plan.feasible]
    assert bits == sorted(bits, reverse=True)
    for each in plan.feasible:
        assert each.disk_bytes <= 700e6
        assert each.memory.peak_bytes <= 900e6
    kept = {each.scheme for each in plan.feasible}
    for own, sized in plan.sizes:
        if own.name not in kept:  # too large as a file, or in memory with the coarsest cache
            coarse = make_plan("tinyllama-1.1b", Wishes(
                scheme=own.name, precision="q4_0", context=2048)).chosen  # fmt: skip
            assert sized.size_bytes > 700e6 or coarse.memory.peak_bytes > 900e6


@pytest.mark.parametrize(
    ("name", "share"), [("llama-3.1-8b", 0.5), ("gpt2", 0.6), ("all-minilm-l6-v2", 0.85)]
)
def test_an_impossible_budget_names_what_is_nearest(name: str, share: float) -> None:
    whole = make_plan(name, Wishes())
    least = min(sized.size_bytes for _, sized in whole.sizes)
    plan = make_plan(name, Wishes(max_mb=share * least / 1e6))
    assert plan.feasible == []
    nearest = plan.nearest
    assert nearest is not None
    assert nearest.smallest[0].disk_bytes == least
    limit = int(share * least / 1e6 * 1e6)
    assert nearest.required_bits == pytest.approx(8 * limit / whole.network.num_parameters)
    assert nearest.fewer_blocks
    for each in nearest.fewer_blocks:
        assert each.disk_bytes <= limit
        assert 1 <= each.num_blocks < whole.network.num_blocks
        # One more block would be too much.
        config = read_config(name)
        key = next(k for k in ("num_hidden_layers", "n_layer") if k in config.values)
        values = dict(config.values) | {key: each.num_blocks + 1}
        longer = network_of(parsed(json.dumps(values), where="longer"))
        assert scheme(each.scheme).store(longer).size_bytes > limit


def test_a_budget_of_memory_is_kept_with_fewer_tokens() -> None:
    plan = make_plan("llama-3.2-1b", Wishes(
        scheme="gguf_q4_k", context=131_072, max_memory_mb=1200))  # fmt: skip
    assert plan.nearest is not None
    (shorter,) = plan.nearest.fewer_tokens
    assert shorter.memory.peak_bytes <= 1200e6
    again = make_plan("llama-3.2-1b", Wishes(
        scheme="gguf_q4_k", context=shorter.context + 1, precision="q4_0"))  # fmt: skip
    assert again.chosen.memory.peak_bytes > 1200e6


def test_a_budget_that_all_else_exceeds() -> None:
    plan = make_plan("gpt2", Wishes(max_mb=100, other_mb=200))
    assert plan.nearest is not None
    assert plan.nearest.required_bits is None
    assert plan.nearest.fewer_blocks == []


def test_a_draft_of_another_vocabulary_is_told() -> None:
    plan = make_plan("llama-3.1-8b", Wishes(draft="tinyllama-1.1b", draft_scheme="gguf_q8_0"))
    assert [part.name for part in plan.chosen.parts] == ["model", "draft"]
    assert any("32,000" in note and "128,256" in note for note in plan.notes)
    same = make_plan("llama-3.1-8b", Wishes(draft="llama-3.2-1b"))
    assert not any("speculative" in note for note in same.notes)
    alone = make_plan("llama-3.1-8b", Wishes()).chosen.memory
    assert same.chosen.memory.cache_bytes > alone.cache_bytes
