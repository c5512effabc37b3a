"""An adapter laid over the base in llama.cpp against the same adapter merged into the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import small_llama
from edgedistill.core.errors import BundleError, ModelError
from edgedistill.export.gguf import write_gguf
from edgedistill.export.gguf_adapter import write_gguf_adapter
from edgedistill.runtime.generation.llama_cpp import LlamaCppSession
from edgedistill.train.tune.lora import LoraConfig, with_adapters

pytest.importorskip("xllamacpp")
gguf = pytest.importorskip("gguf")

SEQUENCE = [small_llama.BOS, 17, 301, 45, 260, 9, 77, 128, 64, 299]


def adapted(**changes: Any) -> Any:
    """The small model with adapters whose both halves are random: an answer changes by them."""
    model = with_adapters(
        small_llama.make_model(**changes), LoraConfig(rank=3, alpha=5.0, dropout=0.0)
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "lora_" in name:
                values.copy_(0.15 * torch.randn(values.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama.write_small(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter as PEFT saves it."""
    folder = tmp_path_factory.mktemp("adapter")
    adapted().save_pretrained(folder)
    return folder


def changed(folder: Path, to: Path, **changes: Any) -> Path:
    """A copy whose configuration says otherwise."""
    shutil.copytree(folder, to)
    file = to / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return to


@pytest.mark.parametrize("changes", [{}, {"num_key_value_heads": 4, "tied": False}], ids=str)
def test_base_and_adapter_answer_as_the_merged_model(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model, tokenizer = adapted(**changes), small_llama.make_tokenizer()
    base = small_llama.write_small(tmp_path, **changes)
    adapter = write_gguf_adapter(model, base=base, to=tmp_path / "new" / "adapter.gguf")
    assert [path.name for path in adapter.parent.iterdir()] == ["adapter.gguf"]
    merged = write_gguf(
        model.merge_and_unload(), tokenizer, to=tmp_path / "merged.gguf", kind="f32"
    ).path
    said, scores = {}, {}
    for name, file, laid in (
        ("base", base, None), ("both", base, adapter), ("merged", merged, None),
    ):  # fmt: skip
        with LlamaCppSession(file, context=small_llama.CONTEXT, adapter=laid) as session:
            said[name] = [
                session.generate([small_llama.BOS, *tokenizer.encode(text).ids[:12]],
                                 max_new_tokens=40).text
                for text in small_llama.TEXTS
            ]  # fmt: skip
            scores[name] = session.score(SEQUENCE)
    assert said["both"] == said["merged"] != said["base"]
    np.testing.assert_allclose(scores["both"], scores["merged"], atol=2e-4)
    assert np.abs(scores["both"] - scores["base"]).max() > 0.1


def test_rank_stabilised_adapters_keep_their_scale(
    base: Path, folder: Path, tmp_path: Path
) -> None:
    plain = write_gguf_adapter(folder, base=base, to=tmp_path / "plain.gguf")
    stabilised = write_gguf_adapter(
        changed(folder, tmp_path / "rs", use_rslora=True), base=base, to=tmp_path / "rs.gguf"
    )
    alphas = [
        float(gguf.GGUFReader(file).fields["adapter.lora.alpha"].contents())
        for file in (plain, stabilised)
    ]
    assert alphas == pytest.approx([5.0, 5.0 * 3**0.5])


def test_a_folder_gives_the_same_file_as_the_model(
    base: Path, folder: Path, tmp_path: Path
) -> None:
    from_folder = write_gguf_adapter(folder, base=base, to=tmp_path / "a.gguf")
    from_model = write_gguf_adapter(adapted(), base=base, to=tmp_path / "b.gguf")
    assert from_folder.read_bytes() == from_model.read_bytes()
    weights = load_file(folder / "adapter_model.safetensors")
    stored = {t.name: t.data for t in gguf.GGUFReader(from_folder).tensors}
    assert len(stored) == len(weights) == 2 * 2 * 7
    layer = "base_model.model.model.layers.1.mlp.down_proj"
    for part in "AB":
        np.testing.assert_array_equal(
            stored[f"blk.1.ffn_down.weight.lora_{part.lower()}"],
            weights[f"{layer}.lora_{part}.weight"].numpy(),
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 1}, "no matrix"),
        ({"num_hidden_layers": 3}, "2 blocks, the base has 3"),
        ({"width": 32}, "shape"),
        ({"intermediate_size": 64}, "shape"),
        ({"num_key_value_heads": 4}, "shape"),
    ],
    ids=str,
)
def test_an_adapter_of_another_base_is_refused(
    changes: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    other = small_llama.write_small(tmp_path, **changes)
    with pytest.raises(ModelError, match=said) as caught:
        write_gguf_adapter(folder, base=other, to=tmp_path / "adapter.gguf")
    assert "the base that it was trained on" in str(caught.value)
    assert not (tmp_path / "adapter.gguf").exists()


@pytest.mark.parametrize(
    "change",
    [{"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"alpha_pattern": {"q_proj": 2}},
     {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"lora_alpha": 0},
     {"fan_in_fan_out": True}],
    ids=str,
)  # fmt: skip
def test_forms_that_llama_cpp_would_add_wrongly_are_refused(
    change: dict[str, Any], base: Path, folder: Path, tmp_path: Path
) -> None:
    wrong = changed(folder, tmp_path / "wrong", **change)
    with pytest.raises(ModelError, match=next(iter(change))):
        write_gguf_adapter(wrong, base=base, to=tmp_path / "adapter.gguf")


def test_damaged_adapters_are_refused(base: Path, folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "adapter.gguf"
    with pytest.raises(ModelError, match="adapter's folder"):
        write_gguf_adapter(tmp_path, base=base, to=to)
    with pytest.raises(ModelError, match="no adapter"):
        write_gguf_adapter(small_llama.make_model(), base=base, to=to)
    wrong = changed(folder, tmp_path / "ia3", peft_type="IA3")
    with pytest.raises(ModelError, match="only LoRA"):
        write_gguf_adapter(wrong, base=base, to=to)
    with pytest.raises(BundleError, match="GGUF"):
        write_gguf_adapter(folder, base=folder / "adapter_config.json", to=to)
    broken = changed(folder, tmp_path / "broken")
    file = broken / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    lost = weights.pop(name)
    save_file(weights, file)
    with pytest.raises(ModelError, match="missing"):
        write_gguf_adapter(broken, base=base, to=to)
    save_file(weights | {name: torch.full_like(lost, float("nan"))}, file)
    with pytest.raises(ModelError, match="not finite"):
        write_gguf_adapter(broken, base=base, to=to)
    save_file({}, file)
    with pytest.raises(ModelError, match="no matrices"):
        write_gguf_adapter(broken, base=base, to=to)
    assert not to.exists()


def test_the_runtime_refuses_what_is_no_adapter(base: Path, tmp_path: Path) -> None:
    garbage = tmp_path / "adapter.gguf"
    garbage.write_bytes(b"GGUF nothing")
    with pytest.raises(BundleError, match="adapter"):
        LlamaCppSession(base, context=32, adapter=garbage)
