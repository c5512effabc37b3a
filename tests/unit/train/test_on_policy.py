"""The student's own answers: drawn as it says, judged by the teacher, resumed bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

import small_llama
import small_tokenizers
from edgedistill.core.conversation import Conversation, Turn
from edgedistill.core.errors import ModelError
from edgedistill.core.events import Event, silent
from edgedistill.models.language.decoding import sampled_ids
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.train.distill.next_token import LiveNextToken
from edgedistill.train.distill.on_policy import OnPolicy, Sampling, prompts_of
from edgedistill.train.distill.token_level import TokenLevelConfig
from edgedistill.train.loop import LoopConfig, train
from edgedistill.train.sequences import SequenceBatch, SequenceSet
from edgedistill.train.tune.next_token import NextToken, learned_logits, mean_loss

CPU, END = torch.device("cpu"), small_llama.EOS
PROMPTS = [[7, 8, 9], [10], [11, 12, 13, 14, 15, 16], [17, 18]]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sampling(share: float = 1.0, most: int = 12, room: int = 100) -> Sampling:
    return Sampling(share, most, room, END, small_llama.PAD)


def rows_of(prompts: Sequence[Sequence[int]] = PROMPTS) -> SequenceSet:
    rows = [[*prompt, 30 + n, 31, END] for n, prompt in enumerate(prompts)]
    learned = [[False] * len(prompt) + [True] * 3 for prompt in prompts]
    return SequenceSet.from_lists(rows, learned, small_llama.PAD)


def batch_of(rows: SequenceSet) -> SequenceBatch:
    return rows.batch([[row] for row in range(len(rows))], CPU)


class OneAnswer(nn.Module):
    """Says one token, whatever it reads."""

    def __init__(self, token: int, chance: float = 60.0) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(400).index_fill(0, torch.tensor(token), chance))

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        class Said:
            logits = self.table.expand(*input_ids.shape, -1)
            past_key_values = None

        return Said


@pytest.mark.parametrize("changes", small_llama.VARIANTS[::6])
def test_samples_are_those_of_one_prompt_alone_read_whole(changes: dict[str, Any]) -> None:
    model = small_llama.make_model(**changes)
    found = sampled_ids(model, PROMPTS, max_new_tokens=9, end_id=END, rng=seeded())
    rng, rows = seeded(), [list(prompt) for prompt in PROMPTS]
    with torch.no_grad():
        for _ in range(9):
            said = [model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows]
            drawn = torch.multinomial(torch.stack(said).softmax(-1), 1, generator=rng)
            for row, token in zip(rows, drawn[:, 0].tolist(), strict=True):
                row.append(token)
    wanted = [row[len(prompt) :] for row, prompt in zip(rows, PROMPTS, strict=True)]
    assert found == [w[: w.index(END) + 1] if END in w else w for w in wanted]
    assert len({tuple(one) for one in found}) == len(PROMPTS)


def test_tokens_come_as_often_as_the_model_says() -> None:
    model = small_llama.make_model(initializer_range=0.1)
    found = sampled_ids(model, [[7, 8, 9]] * 4000, max_new_tokens=1, end_id=END, rng=seeded())
    counts = torch.bincount(torch.tensor(found)[:, 0], minlength=400).double()
    with torch.no_grad():
        expected = 4000 * model(input_ids=torch.tensor([[7, 8, 9]])).logits[0, -1].softmax(-1)
    often = expected > 8
    groups = [torch.cat([x[often], x[~often].sum()[None]]).double() for x in (counts, expected)]
    assert often.sum() > 50
    assert chisquare(groups[0], groups[1] * 4000 / groups[1].sum()).pvalue > 0.001


def test_an_answer_ends_at_once_or_never() -> None:
    for token, wanted in ((END, [END]), (50, [50] * 6)):
        told = sampled_ids(OneAnswer(token), PROMPTS, max_new_tokens=6, end_id=END, rng=seeded())
        assert told == [wanted] * len(PROMPTS)
    with pytest.raises(ModelError, match="not a number"):
        sampled_ids(OneAnswer(3, torch.nan), PROMPTS, max_new_tokens=6, end_id=END, rng=seeded())


def test_prompts_are_what_stands_before_the_last_answer() -> None:
    talk, single, silent_row = [5, 6, 40, END, 7, 8, 41, 42, END, 9], [5, 40, END], [3, 4]
    learned = [[i in (2, 3, 6, 7, 8) for i in range(10)], [False, True, True], [False] * 2]
    rows = SequenceSet.from_lists([talk, single, silent_row], learned, small_llama.PAD)
    assert prompts_of(batch_of(rows)) == [[5, 6, 40, END, 7, 8], [5]]
    with pytest.raises(ValueError, match="rows of one example"):
        prompts_of(rows.batch([[0, 1], [2]], CPU))


@pytest.mark.parametrize("turns", [small_tokenizers.EASY, small_tokenizers.HARD * 2])
@pytest.mark.parametrize("name", sorted(small_tokenizers.all_templates()))
def test_they_are_what_the_bundle_asks_with(name: str, turns: tuple[Turn, ...]) -> None:
    template = small_tokenizers.all_templates()[name]
    tokenizer = small_tokenizers.fitted(small_tokenizers.byte_tokenizer(), template)
    encoder = ConversationEncoder(tokenizer, template, max_tokens=999, learn_end=True)
    whole = encoder.encode(Conversation("row", turns))
    rows = SequenceSet.from_lists([whole.ids.tolist()], [whole.learned.tolist()], 0)
    assert prompts_of(batch_of(rows)) == [encoder.encode_prompt(turns[:-1]).tolist()]


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_the_loss_is_the_divergence_of_the_answers_written_out(divergence: str) -> None:
    student, teacher = (small_llama.make_model(width=w) for w in (32, 64))
    config = TokenLevelConfig(divergence=divergence, hard_weight=0.7, chunk_size=5)
    step = OnPolicy(NextToken(), teacher, config, sampling())
    rows, rng = batch_of(rows_of()), seeded()
    terms = step(student, rows, rng=seeded())
    assert set(terms) == {"on_policy"}
    torch.rand((), generator=rng)
    own = seeded(int(torch.randint(1 << 62, (), generator=rng)))
    answered = step.answered(student, rows, PROMPTS, own)
    assert prompts_of(answered) == PROMPTS
    for model in (student, teacher):
        # Fused attention has wrong slopes in double precision under a mask of single precision.
        model.double().set_attn_implementation("eager")
    soft = step.judged(student, answered, rng=rng)["soft"]
    soft.backward()

    def written_out() -> Tensor:
        ours, theirs = (learned_logits(m, answered)[0].softmax(-1) for m in (student, teacher))
        middle = (ours + theirs) / 2
        found = {
            "forward_kl": theirs * (theirs / ours).log(),
            "reverse_kl": ours * (ours / theirs).log(),
            "jensen_shannon": (theirs * (theirs / middle).log() + ours * (ours / middle).log()) / 2,
        }[divergence]
        return found.sum(-1).mean()

    # Norms compute in single precision, whatever the weights are.
    assert soft.item() == pytest.approx(written_out().item(), rel=1e-6)
    assert terms["on_policy"].item() == pytest.approx(soft.item(), rel=1e-4)
    for values in list(student.parameters())[::4]:
        place = int(values.grad.abs().argmax())
        slope, sums = values.grad.flatten()[place].item(), []
        with torch.no_grad():
            for shift in (1e-3, -2e-3):
                values.view(-1)[place] += shift
                sums.append(written_out().item())
            values.view(-1)[place] += 1e-3
        assert slope == pytest.approx((sums[0] - sums[1]) / 2e-3, rel=1e-2, abs=1e-3)


def test_nothing_is_to_be_learned_from_oneself() -> None:
    config = TokenLevelConfig(divergence="reverse_kl")
    step = OnPolicy(NextToken(), small_llama.make_model(), config, sampling())
    student = small_llama.make_model().train()
    terms = step(student, batch_of(rows_of()), rng=seeded())
    assert terms["on_policy"].item() == pytest.approx(0.0, abs=1e-5)
    assert student.training


def test_the_share_is_of_batches_and_draws_do_not_depend_on_what_was_before() -> None:
    student, teacher = small_llama.make_model(width=32), small_llama.make_model()
    batch, kinds = batch_of(rows_of()), []
    after = []
    for share, most in ((0.0, 1), (1.0, 1), (1.0, 12), (0.3, 1)):
        step = OnPolicy(NextToken(), teacher, TokenLevelConfig(), sampling(share, most))
        rng = seeded(3)
        kinds.append([*(next(iter(step(student, batch, rng=rng))) for _ in range(40))])
        after.append(torch.rand((), generator=rng).item())
    assert len(set(after)) == 1
    assert set(kinds[0]) == {"next_token"}
    assert set(kinds[1]) == {"on_policy"}
    assert 5 <= kinds[3].count("on_policy") <= 20


def test_prompts_that_do_not_fit_are_left_out() -> None:
    student, teacher, batch = small_llama.make_model(width=32), small_llama.make_model(), rows_of()
    step = OnPolicy(NextToken(), teacher, TokenLevelConfig(), sampling(most=12, room=14))
    assert step._fitting(batch_of(batch)) == [[10], [17, 18]]
    step = OnPolicy(NextToken(), teacher, TokenLevelConfig(), sampling(most=12, room=12))
    assert set(step(student, batch_of(batch), rng=seeded())) == {"next_token"}


def test_answers_far_longer_than_the_rows_are_fewer() -> None:
    student, batch = small_llama.make_model(width=32), batch_of(rows_of())
    step = OnPolicy(NextToken(), student, TokenLevelConfig(), sampling(most=30))
    answered = step.answered(student, batch, PROMPTS, seeded())
    assert len(answered.input_ids) == 2 * batch.input_ids.numel() // 36 == 2
    assert all(prompt in PROMPTS for prompt in prompts_of(answered))
    step = OnPolicy(NextToken(), student, TokenLevelConfig(), sampling(most=90))
    assert len(step.answered(student, batch, PROMPTS, seeded()).input_ids) == 1


def test_in_half_precision_every_weight_learns() -> None:
    student = small_llama.make_model(width=32).train()
    step = OnPolicy(NextToken(), small_llama.make_model(), TokenLevelConfig(), sampling())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = step(student, batch_of(rows_of()), rng=seeded())
    terms["on_policy"].backward()
    assert all(values.grad is not None and values.grad.any() for values in student.parameters())


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path, killed_after: int) -> None:
    class Killed(BaseException):
        pass

    def run(folder: Path, listener: Any = silent) -> tuple[Any, Any]:
        student, config = small_llama.make_model(width=32), TokenLevelConfig(hard_weight=0.3)
        teacher = small_llama.make_model()
        step = OnPolicy(LiveNextToken(teacher, config), teacher, config, sampling(0.5))
        rows = rows_of(PROMPTS * 6)
        result = train(
            student, step, rows, score=lambda trained: -mean_loss(trained, rows),
            config=LoopConfig(3, 2e-3, batch_size=40, patience=9), checkpoints=folder, stage="s",
            listener=listener,
        )  # fmt: skip
        return student, result

    def kill(event: Event) -> None:
        if event.message == f"epoch {killed_after} of 3":
            raise Killed

    whole, first = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", kill)
    resumed, second = run(tmp_path / "cut")
    assert first.best_epoch == 3
    names = ("on_policy", "soft", "hard")
    assert [[e[n] for n in names] for e in first.history] == [
        [e[n] for n in names] for e in second.history
    ]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
