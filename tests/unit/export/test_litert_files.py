"""Students in LiteRT answer as they do in torch; skipped where LiteRT is not installed."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.core.errors import BundleError, StorageError
from edgedistill.export.litert import round_litert, write_litert
from edgedistill.models.students.bert_blocks import LabellingTagger, TransformerStudent
from edgedistill.runtime.litert_session import LiteRtSession
from edgedistill.runtime.networks import load_network, runtime_of
from small_network import VOCABULARY, small

for package in ("ai_edge_litert", "ai_edge_quantizer", "litert_torch"):
    pytest.importorskip(package, reason="needs the extra litert-export")

pytestmark = pytest.mark.filterwarnings("ignore")
LENGTHS = (4, 9)


@pytest.fixture(scope="module")
def network() -> TransformerStudent:
    """Two layers of our blocks."""
    whole = small().network
    return TransformerStudent(whole.embedding, whole.encoder_layers()[:2], whole.head).eval()


@pytest.fixture(scope="module")
def file(network: TransformerStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, as a file in full precision."""
    target = tmp_path_factory.mktemp("litert") / "full.tflite"
    return write_litert(network, lengths=LENGTHS, to=target)


def texts() -> list[np.ndarray]:
    """Of every length that may come, the limits of each signature among them."""
    rng = np.random.default_rng(0)
    return [rng.integers(4, VOCABULARY, (1, n)) for n in (1, 3, 4, 5, 8, 9)]


def largest_difference(session: LiteRtSession, network: nn.Module) -> float:
    most = 0.0
    for ids in texts():
        mask = np.ones_like(ids)
        with torch.no_grad():
            expected = network(torch.from_numpy(ids), torch.from_numpy(mask))
        logits, features = session.run(ids, mask)
        assert logits.dtype == features.dtype == np.float32
        most = max(
            most, float(np.abs(logits - expected.logits.numpy()).max()),
            float(np.abs(features - expected.features.numpy()).max()),
        )  # fmt: skip
    return most


def test_full_precision_is_full_precision(file: Path, network: TransformerStudent) -> None:
    content = file.read_bytes()
    assert runtime_of(content) == "litert"
    session = load_network(content)
    assert isinstance(session, LiteRtSession)
    assert session.lengths == LENGTHS
    assert largest_difference(session, network) < 1e-4


def test_what_cannot_be_written_is_no_fault_of_the_network(
    file: Path, network: TransformerStudent
) -> None:
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        write_litert(network, lengths=LENGTHS, to=file / "full.tflite")


def test_rounded_weights_are_smaller_and_near(
    file: Path, network: TransformerStudent, tmp_path: Path
) -> None:
    found = {}
    for bits in (8, 4):
        small_file = round_litert(file, bits=bits, to=tmp_path / f"{bits}.tflite")  # type: ignore
        found[bits] = largest_difference(LiteRtSession(small_file.read_bytes()), network)
        assert small_file.stat().st_size < file.stat().st_size
    scale = max(float(np.abs(LiteRtSession(file.read_bytes()).run(i, np.ones_like(i))[0]).max())
                for i in texts())  # fmt: skip
    assert 0 < found[8] < 0.2 * scale
    assert found[8] < found[4]


def test_rows_of_a_batch_are_answered_apart(file: Path) -> None:
    session = LiteRtSession(file.read_bytes())
    ids = np.array([[5, 6, 7, 0, 0], [8, 9, 10, 11, 12]])
    mask = (ids > 0).astype(np.int64)
    together = session.run(ids, mask)[0]
    assert np.allclose(together[:1], session.run(ids[:1, :3], mask[:1, :3])[0], atol=1e-5)
    assert np.array_equal(together[1:], session.run(ids[1:], mask[1:])[0])


def test_threads_do_not_mix_their_texts(file: Path) -> None:
    session = LiteRtSession(file.read_bytes())
    given = texts()
    alone = [session.run(ids, np.ones_like(ids))[0] for ids in given]
    wrong: list[int] = []

    def ask(place: int) -> None:
        for _ in range(30):
            ids = given[place]
            if not np.array_equal(session.run(ids, np.ones_like(ids))[0], alone[place]):
                wrong.append(place)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_tagger_says_nothing_of_what_was_padded(tmp_path: Path) -> None:
    whole = small().network
    student = TransformerStudent(whole.embedding, whole.encoder_layers()[:1], whole.head)
    tagger = LabellingTagger.split(student, 3).eval()
    session = LiteRtSession(
        write_litert(tagger, lengths=(6,), to=tmp_path / "t.tflite").read_bytes()
    )
    ids = np.array([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = tagger(torch.from_numpy(ids), torch.ones(1, 4, dtype=torch.int64))
    found = session.run_all(ids, np.ones_like(ids))
    assert found[0].shape == (1, 4, 3)
    for ours, theirs in zip(
        found, (expected.logits, expected.features, expected.label_logits), strict=True
    ):
        assert np.allclose(ours, theirs.numpy(), atol=1e-4)


def test_what_cannot_be_read_is_refused(file: Path) -> None:
    with pytest.raises(BundleError, match="LiteRT cannot load the model"):
        load_network(b"\x1c\0\0\0TFL3 and nothing more")
    ids = np.ones((1, 10), np.int64)
    with pytest.raises(BundleError, match="10 tokens is longer than the 9"):
        LiteRtSession(file.read_bytes()).run(ids, ids)
