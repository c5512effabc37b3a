"""Masks of random conversations under every template: exactly what must be learned is."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgedistill.core.conversation import Conversation, Turn
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.sections import assistant_text, read_sections
from edgedistill.tasks.generation.template import Template
from edgedistill.tasks.generation.templates import TEMPLATES
from small_tokenizers import STORIES, all_templates, byte_tokenizer, fitted, needs_stories

TEMPLATES_BY_NAME = all_templates()
CONTROLS = sorted({t for name in TEMPLATES for t in TEMPLATES.load(name).special_tokens})
STOPS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "</s>")
BYTES = byte_tokenizer()

# The character that stands for a space in the stories tokenizer comes back as one.
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="▁")
PIECES = st.one_of(
    st.text(LETTERS, max_size=8),
    st.sampled_from([*CONTROLS, "<s>", "</s>", "[/INST]", "<|im_start|>system\n", " ", "\n\n"]),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(str.strip)
ANSWERS = st.builds(
    Turn, st.just("assistant"), TEXTS, st.none() | TEXTS, st.none() | TEXTS
)  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    turns = [Turn("system", draw(TEXTS))] if draw(st.booleans()) else []
    for answer in draw(st.lists(ANSWERS, min_size=1, max_size=3)):
        turns += [Turn("user", draw(TEXTS)), answer]
    return Conversation("row", tuple(turns))


def encoder(
    tokenizer: Tokenizer, template: Template, *, learn_end: bool = False
) -> ConversationEncoder:
    return ConversationEncoder(
        fitted(tokenizer, template), template, max_tokens=10**6, learn_end=learn_end
    )


ENCODERS = {name: encoder(BYTES, template) for name, template in TEMPLATES_BY_NAME.items()}


def learned_runs(encoder: ConversationEncoder, conversation: Conversation) -> list[list[int]]:
    encoded = encoder.encode(conversation)
    pairs = zip(encoded.ids.tolist(), encoded.learned.tolist(), strict=True)
    return [[i for i, _ in run] for mark, run in groupby(pairs, lambda pair: pair[1]) if mark]


def answers(conversation: Conversation, name: str) -> list[str]:
    """What must be learned, as the template writes it."""
    texts = [assistant_text(turn) for turn in conversation.turns if turn.role == "assistant"]
    if name == "llama3.jinja":
        return [text.strip() for text in texts]
    return [f" {text}" for text in texts] if name == "instruction.jinja" else texts


def control_ids(encoder: ConversationEncoder, conversation: Conversation) -> list[int]:
    special = {i for i, t in encoder.tokenizer.get_added_tokens_decoder().items() if t.special}
    return [i for i in encoder.encode(conversation).ids.tolist() if i in special]


@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
@settings(max_examples=40, deadline=None)
@given(conversation=conversations())
def test_answers_are_learned_and_nothing_else(name: str, conversation: Conversation) -> None:
    encoder = ENCODERS[name]
    runs = learned_runs(encoder, conversation)
    decoded = [encoder.tokenizer.decode(run, skip_special_tokens=False) for run in runs]
    assert decoded == answers(conversation, name)


@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
@settings(max_examples=25, deadline=None)
@given(conversation=conversations())
def test_the_end_is_one_more_token_where_it_is_learned(
    name: str, conversation: Conversation
) -> None:
    bare = learned_runs(ENCODERS[name], conversation)
    ended = learned_runs(encoder(BYTES, TEMPLATES_BY_NAME[name], learn_end=True), conversation)
    assert [run[:-1] for run in ended] == bare
    ends = {ENCODERS[name].tokenizer.id_to_token(run[-1]) for run in ended}
    assert len(ends) == 1
    assert ends <= set(STOPS)


@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
@settings(max_examples=40, deadline=None)
@given(conversation=conversations())
def test_a_prompt_is_the_beginning_of_the_whole(name: str, conversation: Conversation) -> None:
    encoder = ENCODERS[name]
    whole = encoder.encode(conversation)
    for place, turn in enumerate(conversation.turns):
        if turn.role == "assistant":
            prompt = encoder.encode_prompt(conversation.turns[:place])
            assert np.array_equal(prompt, whole.ids[: len(prompt)])
            assert whole.learned[len(prompt)]
            assert not whole.learned[len(prompt) - 1]
            text = encoder.template.prompt_text(conversation.turns[:place])
            assert encoder.tokenizer.decode(prompt.tolist(), skip_special_tokens=False) == text


@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
@settings(max_examples=40, deadline=None)
@given(conversation=conversations())
def test_what_people_write_brings_no_special_token(name: str, conversation: Conversation) -> None:
    harmless = Conversation("row", tuple(Turn(turn.role, "x") for turn in conversation.turns))
    found = control_ids(ENCODERS[name], conversation)
    assert found == control_ids(ENCODERS[name], harmless)
    assert found


@needs_stories
@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
@settings(max_examples=25, deadline=None)
@given(conversation=conversations())
def test_a_sentencepiece_tokenizer(name: str, conversation: Conversation) -> None:
    stories = encoder(Tokenizer.from_file(str(STORIES / "tokenizer.json")), TEMPLATES_BY_NAME[name])
    runs = learned_runs(stories, conversation)
    decoded = [stories.tokenizer.decode(run, skip_special_tokens=False) for run in runs]
    # SentencePiece marks the beginning of a text by a space: one that stands there is lost.
    texts = [assistant_text(turn) for turn in conversation.turns if turn.role == "assistant"]
    texts = [text.strip() if name == "llama3.jinja" else text.removeprefix(" ") for text in texts]
    assert decoded == [f" {text}" if name == "instruction.jinja" else text for text in texts]
    prompt = stories.encode_prompt(conversation.prompt)
    assert np.array_equal(prompt, stories.encode(conversation).ids[: len(prompt)])
    harmless = Conversation("row", tuple(Turn(turn.role, "x") for turn in conversation.turns))
    assert control_ids(stories, conversation) == control_ids(stories, harmless)


@settings(max_examples=200, deadline=None)
@given(answer=ANSWERS)
def test_sections_are_read_back(answer: Turn) -> None:
    sections = read_sections(assistant_text(answer))
    assert (sections.draft, sections.thinking) == (answer.draft, answer.thinking)
    assert sections.response == answer.content


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            ["<draft>", "</draft>", "<thinking>", "</thinking>", "<response>", "</response>", "x"]
        ),
        max_size=12,
    ).map("".join)
)
def test_reading_sections_never_fails_on_what_a_model_writes(text: str) -> None:
    sections = read_sections(text)
    if sections.response is None:
        assert text.startswith(("<draft>", "<thinking>", "<response>"))
    else:
        assert sections.response in text
