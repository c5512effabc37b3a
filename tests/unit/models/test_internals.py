"""What teacher and student tell of their inside, in memory and kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from edgedistill.core.artefacts import Encoded
from edgedistill.core.errors import MissingSignal, ModelError
from edgedistill.core.protocols import Signal
from edgedistill.models import internals_cache
from edgedistill.models.families import FAMILIES
from edgedistill.models.internals import NetworkShape, teacher_internals
from edgedistill.models.internals_cache import internals_bytes, open_internals, write_internals
from edgedistill.models.students.truncated import TruncatedConfig, build
from edgedistill.models.students.vocabulary import keep_tokens
from edgedistill.models.teachers.encoder import EncoderClassifier

CONFIG = BertConfig(
    vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=40, max_position_embeddings=16, attn_implementation="eager",
)  # fmt: skip
SHAPE = NetworkShape(3, 24, 4, 6)
INSIDE = (Signal.STATES, Signal.ATTENTIONS, Signal.QUERIES, Signal.KEYS, Signal.VALUES)
TEXTS = Encoded.from_lists([[2, 9, 8, 7, 3], [2, 3], [2, 4, 5, 6, 7, 8, 9, 3], [1]])


@pytest.fixture(scope="module")
def teacher() -> EncoderClassifier:
    torch.manual_seed(0)
    encoder = BertModel(CONFIG, add_pooling_layer=False)
    # Fresh biases are zero: a mistake in them would not show.
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return EncoderClassifier(encoder, 3).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = TEXTS.padded(np.arange(4), 0)
    return torch.from_numpy(ids), torch.from_numpy(mask)


def test_shape_is_read_from_the_config_and_strange_encoders_are_refused() -> None:
    assert NetworkShape.of_encoder(CONFIG.to_dict()) == SHAPE
    with pytest.raises(MissingSignal, match="'distilbert'"):
        NetworkShape.of_encoder({"model_type": "distilbert"})


def test_a_student_of_all_layers_tells_what_its_teacher_tells(teacher: EncoderClassifier) -> None:
    table = teacher.encoder.get_input_embeddings().weight  # type: ignore[union-attr, operator]
    kept = keep_tokens(table, range(50), (0, 1, 2, 3))
    student = build(teacher, kept, TruncatedConfig(layers=(0, 1, 2)), max_tokens=16).eval()
    ids, mask = batch()
    told = teacher_internals(teacher, ids, mask, dict.fromkeys(INSIDE, (0, 1, 2)))
    assert set(told) == set(INSIDE)
    with torch.no_grad():
        output, internals = student.read(ids, mask)
        plain = student(ids, mask)
    assert torch.equal(output.logits, plain.logits)
    assert torch.equal(output.features, plain.features)
    real = mask.bool()
    for signal in INSIDE:
        for layer in range(3):
            theirs, ours = told[signal][:, layer], internals[signal][layer]
            if signal is not Signal.STATES:
                theirs, ours = theirs.transpose(1, 2), ours.transpose(1, 2)
            torch.testing.assert_close(ours[real], theirs[real], rtol=1e-3, atol=1e-4)


def test_layers_come_in_the_order_asked_and_leave_no_hooks(teacher: EncoderClassifier) -> None:
    ids, mask = batch()
    everything = teacher_internals(teacher, ids, mask, dict.fromkeys(INSIDE, (0, 1, 2)))
    some = teacher_internals(
        teacher, ids, mask, {Signal.KEYS: (0, 2), Signal.STATES: (1,), Signal.ATTENTIONS: (2,)}
    )
    assert torch.equal(some[Signal.KEYS], everything[Signal.KEYS][:, [0, 2]])
    assert torch.equal(some[Signal.STATES], everything[Signal.STATES][:, [1]])
    assert torch.equal(some[Signal.ATTENTIONS], everything[Signal.ATTENTIONS][:, [2]])
    linear = [module for module in teacher.modules() if isinstance(module, torch.nn.Linear)]
    assert len(linear) == 3 * 6 + 1
    assert not any(module._forward_hooks for module in linear)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_foresee_a_shape_have_it_and_only_they_tell(
    family: str, teacher: EncoderClassifier
) -> None:
    entry = FAMILIES.load(family)
    if entry.shape is None:
        # What is compressed has other heads in every layer, known only when it is made.
        assert family in ("static", "linear", "compressed")
        return
    options = {"truncated": [{"layers": (2,)}, {"layers": (0, 2), "num_heads": 3}],
               "small_transformer": [{"hidden_size": 12, "layers": (1, 2)}]}[family]  # fmt: skip
    table = teacher.encoder.get_input_embeddings().weight  # type: ignore[union-attr, operator]
    kept = keep_tokens(table, range(50), (0, 1, 2, 3))
    module = __import__(f"edgedistill.models.students.{family}", fromlist=["build"])
    for given in options:
        config = entry.config(**given)
        student = module.build(teacher, kept, config, max_tokens=16)
        _, internals = student.read(*batch())
        shape = entry.shape(config, SHAPE)
        assert len(internals[Signal.STATES]) == shape.num_layers
        assert internals[Signal.STATES][0].shape[-1] == shape.hidden_size
        assert internals[Signal.VALUES][-1].shape == (4, shape.num_heads, 8, shape.head_size)
        assert internals[Signal.ATTENTIONS][-1].shape == (4, shape.num_heads, 8, 8)


LAYERS = {Signal.STATES: (0, 2), Signal.ATTENTIONS: (1,), Signal.VALUES: (2,)}


def write(teacher: EncoderClassifier, folder: Path, texts: Encoded = TEXTS) -> list[float]:
    told: list[float] = []
    write_internals(teacher, texts, LAYERS, SHAPE, folder, pad_id=0, progress=told.append)
    return told


def test_what_is_kept_is_what_was_told_padded_with_zeros(
    teacher: EncoderClassifier, tmp_path: Path
) -> None:
    assert write(teacher, tmp_path) == [1.0]
    kept = open_internals(tmp_path, TEXTS, LAYERS, SHAPE)
    size = sum(file.stat().st_size for file in tmp_path.glob("*.f16"))
    assert size == internals_bytes(LAYERS, SHAPE, TEXTS.lengths)
    assert size == 2 * (2 * 24 * 16 + 4 * (25 + 4 + 64 + 1) + 24 * 16)
    ids, mask = batch()
    told = teacher_internals(teacher, ids, mask, LAYERS)
    real = mask.bool().numpy()
    for signal, ragged in kept.items():
        found = ragged[np.array([3, 2, 0, 1])]
        expected = told[signal].numpy()[[3, 2, 0, 1]]
        assert found.dtype == np.float16
        assert found.shape == expected.shape
        for place, row in enumerate([3, 2, 0, 1]):
            num = int(real[row].sum())
            width = num if signal is Signal.ATTENTIONS else found.shape[-1]
            np.testing.assert_allclose(
                found[place, ..., :num, :width], expected[place, ..., :num, :width],
                rtol=2e-3, atol=1e-4,
            )  # fmt: skip
            assert not found[place, ..., num:, :].any()
    assert kept[Signal.STATES][np.array([1])].shape == (1, 2, 2, 24)


def test_reading_goes_on_after_the_last_whole_part(
    teacher: EncoderClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internals_cache, "PART", 2)

    def stop(done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_internals(teacher, TEXTS, LAYERS, SHAPE, tmp_path, pad_id=0, progress=stop)
    assert write(teacher, tmp_path) == [1.0]
    (tmp_path / "whole").mkdir()
    assert write(teacher, tmp_path / "whole") == [0.5, 1.0]
    for file in tmp_path.glob("*.f16"):
        assert file.read_bytes() == (tmp_path / "whole" / file.name).read_bytes()


def test_a_teacher_that_returns_nan_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    broken = EncoderClassifier(BertModel(CONFIG, add_pooling_layer=False), 3).eval()
    with torch.no_grad():
        broken.encoder.get_input_embeddings().weight[9] = float("nan")  # type: ignore[union-attr, operator]
    with pytest.raises(ModelError, match="not numbers"):
        write(broken, tmp_path)
