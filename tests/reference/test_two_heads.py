"""Tags and labels of whole texts under one reading: losses, balance, heads, against float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.core.protocols import ModelOutput, Signal
from edgedistill.core.strategies import ShallowSettings
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.inference import tagger_outputs
from edgedistill.models.internals import NetworkShape
from edgedistill.models.students import small_transformer, truncated
from edgedistill.models.students.bert_blocks import LabellingTagger
from edgedistill.models.students.small_transformer import SmallTransformerConfig
from edgedistill.models.students.truncated import TruncatedConfig
from edgedistill.models.students.vocabulary import KeptVocabulary
from edgedistill.models.teachers.encoder import EncoderLabellingTagger, new_classifier
from edgedistill.runtime.session import Session
from edgedistill.train.distill.combined import Combined, Weighted
from edgedistill.train.distill.response import Response, ResponseConfig
from edgedistill.train.distill.shallow import Shallow
from edgedistill.train.heads import AnswersPart, LabelPart
from edgedistill.train.token_rows import TokenBatch, TokenSet
from edgedistill.train.tune.supervised import Supervised

NUM_TAGS, COLUMNS = 3, (slice(0, 2), slice(2, 6))
ROWS = ([1, 5, 6, 7, 2], [1, 8, 2], [1, 9, 10, 11, 12, 13, 2], [1, 2])
#: The last two texts have no labels; the very last has no token with characters either.
LABELS = np.array([[1, 3], [0, -1], [-1, -1], [-1, -1]], np.int16)
RNG = torch.Generator()
CPU = torch.device("cpu")


class TwoHeads(nn.Module):
    """Counts how often it reads; logits by token, and of labels by the mean token."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, NUM_TAGS + 6)
        self.num_readings = 0

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> ModelOutput:
        self.num_readings += 1
        both = self.table(ids)
        features = (both * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return ModelOutput(both[..., :NUM_TAGS], features, features[:, NUM_TAGS:])


def batch() -> tuple[TokenBatch, np.ndarray, np.ndarray]:
    """All texts, and the teacher's logits of tokens and of labels."""
    texts = Encoded.from_lists(ROWS)
    rng = np.random.default_rng(0)
    tags = rng.normal(size=(len(texts.ids), NUM_TAGS)).astype(np.float16)
    values = rng.normal(size=(len(ROWS), 6)).astype(np.float16)
    is_content = texts.ids > 2
    true = np.where(is_content, texts.ids % NUM_TAGS, -1).astype(np.int16)
    data = TokenSet(
        texts, is_content, true, 0, {Signal.LOGITS: tags}, text_labels=LABELS, text_logits=values
    )
    return data.batch(np.arange(len(ROWS)), CPU), tags[is_content], values


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def soft(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    ours, theirs = (log_softmax(x.astype(np.float64) / temperature) for x in (student, teacher))
    return float((np.exp(theirs) * (theirs - ours)).sum(-1).mean() * temperature**2)


def answers(model: TwoHeads, given: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
    output = model(given.input_ids, given.attention_mask)
    assert output.label_logits is not None
    tags = given.rows(output.logits).detach().numpy().astype(np.float64)
    return tags, output.label_logits.detach().numpy().astype(np.float64)


def parts(method: object, weights: tuple[float, float, float]) -> list[Weighted]:
    return [
        Weighted("fields", AnswersPart(method), weights[0]),  # type: ignore[arg-type]
        *(
            Weighted(f"label-{i}", LabelPart(method, i, columns), weights[i + 1])  # type: ignore[arg-type]
            for i, columns in enumerate(COLUMNS)
        ),
    ]


def test_every_head_has_its_own_divergence_under_one_reading() -> None:
    given, tags, values = batch()
    step = Combined(parts(Response(ResponseConfig(temperature=2.0)), (1.0, 0.5, 3.0)))
    model = TwoHeads()
    terms = step(step.learner(model), given, rng=RNG)
    assert model.num_readings == 1
    our_tags, our_values = answers(model, given)
    assert float(terms["fields/soft"].detach()) == pytest.approx(
        soft(our_tags, tags, 2.0), rel=1e-5
    )
    for i, (columns, weight) in enumerate(zip(COLUMNS, (0.5, 3.0), strict=True)):
        expected = weight * soft(our_values[:, columns], values[:, columns], 2.0)
        assert float(terms[f"label-{i}/soft"].detach()) == pytest.approx(expected, rel=1e-5)


def test_true_labels_count_where_a_text_has_one() -> None:
    given, _, _ = batch()
    step = Combined(parts(Supervised(), (1.0, 1.0, 1.0)))
    model = TwoHeads()
    terms = step(step.learner(model), given, rng=RNG)
    _, values = answers(model, given)
    first, second = (log_softmax(values[:, columns]) for columns in COLUMNS)
    expected = -(first[0, 1] + first[1, 0]) / 2
    assert float(terms["label-0/cross_entropy"].detach()) == pytest.approx(expected, rel=1e-5)
    assert float(terms["label-1/cross_entropy"].detach()) == pytest.approx(-second[0, 3], rel=1e-5)


def test_balanced_heads_begin_alike_and_keep_their_factors() -> None:
    given, _, _ = batch()
    step = Combined(parts(Response(ResponseConfig()), (1.0, 2.0, 0.5)), balance=True)
    learner = step.learner(TwoHeads())
    terms = step(learner, given, rng=RNG)
    assert [float(term.detach()) for term in terms.values()] == pytest.approx([1.0, 2.0, 0.5])
    # A head that its teacher has matched to the last bit is not blown up.
    model = TwoHeads()
    tags, values = answers(model, given)
    given.signals[Signal.LOGITS].copy_(torch.from_numpy(tags))
    assert given.text_logits is not None
    given.text_logits.copy_(torch.from_numpy(values))
    matched = step(step.learner(model), given, rng=RNG)
    assert all(abs(float(term.detach())) < 50 for term in matched.values())


def test_slopes_of_both_heads_are_those_of_finite_differences() -> None:
    given, _, _ = batch()
    model = TwoHeads().double()
    step = Combined(parts(Response(ResponseConfig(hard_weight=0.3)), (1.0, 0.7, 0.2)))
    learner = step.learner(model)

    def loss() -> torch.Tensor:
        return torch.stack([t.double() for t in step(learner, given, rng=RNG).values()]).sum()

    loss().backward()
    slopes = model.table.weight.grad
    assert slopes is not None
    for row, column in ((6, 0), (6, 4), (12, 7), (1, 8)):
        with torch.no_grad():
            found = []
            for change in (1e-4, -2e-4):
                model.table.weight[row, column] += change
                found.append(float(loss().detach()))
            model.table.weight[row, column] += 1e-4
        # Hard terms are taken in single precision.
        assert float(slopes[row, column]) == pytest.approx((found[0] - found[1]) / 2e-4, abs=2e-3)


TEXTS = Encoded.from_lists([[2, 40, 41, 42, 3], [2, 50, 3], [2, 60, 61, 62, 63, 64, 65, 3]])


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> nn.Module:
    torch.manual_seed(0)
    return new_classifier(
        teacher_folder, 9, lambda encoder, num: EncoderLabellingTagger(encoder, num, num_tags=5)
    ).eval()


@pytest.mark.parametrize("family", ["truncated", "small_transformer"])
def test_a_student_of_two_heads_answers_as_its_teacher_and_as_its_export(
    family: str, teacher: nn.Module, tmp_path: Path
) -> None:
    num = int(teacher.encoder.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr, operator]
    kept = KeptVocabulary(torch.arange(num), torch.arange(num, dtype=torch.int16))
    if family == "truncated":
        student = truncated.build(teacher, kept, TruncatedConfig(layers=(0, 1)), max_tokens=16)
    else:
        config = SmallTransformerConfig(
            hidden_size=16, layers=(0, 1), intermediate_size=32, embedding_rank=8
        )
        student = small_transformer.build(teacher, kept, config, max_tokens=16)
    model = LabellingTagger.split(student, 5).eval()
    ours, theirs = (tagger_outputs(m, TEXTS, pad_id=0) for m in (model, teacher))
    assert (ours[0].shape, ours[2].shape) == ((16, 5), (3, 4))
    if family == "truncated":
        assert np.allclose(ours[0], theirs[0], atol=1e-5)
        assert np.allclose(ours[2], theirs[2], atol=1e-5)
    session = Session(OnnxExporter().write(model, to=tmp_path / "m.onnx").read_bytes())
    for row in range(len(TEXTS)):
        logits, _, labels = session.run_all(*TEXTS.padded(np.array([row]), 0))
        assert np.allclose(labels[0], ours[2][row], atol=1e-4)
        start, stop = TEXTS.starts[row : row + 2]
        assert np.allclose(logits[0], ours[0][start:stop], atol=1e-4)


def test_labels_are_learned_beside_parts_that_look_inside(teacher: nn.Module) -> None:
    num = int(teacher.encoder.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr, operator]
    kept = KeptVocabulary(torch.arange(num), torch.arange(num, dtype=torch.int16))
    student = truncated.build(teacher, kept, TruncatedConfig(layers=(0, 1)), max_tokens=16)
    model = LabellingTagger.split(student, 5)
    method = Response(ResponseConfig())
    own = Shallow(ShallowSettings(), NetworkShape(2, 32, 4, 8))
    step = Combined([
        Weighted("fields", AnswersPart(method)), Weighted("own", own),
        Weighted("kind", LabelPart(method, 0, slice(0, 4))),
    ])  # fmt: skip
    tags, _, values = tagger_outputs(teacher, TEXTS, pad_id=0)
    is_content = ~np.isin(TEXTS.ids, (2, 3))
    data = TokenSet(
        TEXTS, is_content, np.where(is_content, 0, -1), 0, {Signal.LOGITS: tags},
        text_labels=np.zeros((3, 1), np.int16), text_logits=values + 1.0,
    )  # fmt: skip
    learner = step.learner(model)
    terms = step(learner, data.batch(np.arange(3), CPU), rng=RNG)
    assert set(terms) == {"fields/soft", "own/answers", "kind/soft"}
    # The student is its teacher, and a constant on all values changes no answer.
    for name in ("fields/soft", "kind/soft"):
        assert float(terms[name].detach()) == pytest.approx(0.0, abs=1e-5)
