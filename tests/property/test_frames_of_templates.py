"""What a bundle asks is, id for id, what the model was trained on: for every template."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgedistill.core.conversation import Turn
from edgedistill.core.errors import DataError, SpecError
from edgedistill.runtime.generation.settings import GenerationSettings
from edgedistill.runtime.tokenizer import Tokenizer as BundleTokenizer
from edgedistill.runtime.tokenizer import pack_tokenizer
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.frames import frames_of
from edgedistill.tasks.generation.sections import spoken
from edgedistill.tasks.generation.template import Template, TurnTemplate
from small_tokenizers import (
    INSTRUCTION_JINJA,
    STORIES,
    all_templates,
    byte_tokenizer,
    fitted,
    jinja,
    needs_stories,
)

# Writes a system turn of its own where there is none.
DEFAULT_SYSTEM_JINJA = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}"
    "{% endif %}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Numbers its turns.
COUNTING_JINJA = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + loop.index|string + '\n' "
    "+ message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}"
    "{{ (messages|length + 1)|string + '\n' }}{% endif %}"
)
BARE = TurnTemplate("<s>", ("", ""), ("", ""), ("", "</s>"), ("<s>", "</s>"))
TEMPLATES_BY_NAME: dict[str, Template] = {
    name: template for name, template in all_templates().items() if name != "instruction.jinja"
} | {"default_system.jinja": jinja(DEFAULT_SYSTEM_JINJA), "bare": BARE}
PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["<|end|>", "<|im_end|>", "<|eot_id|>", "</s>", " ", "\n\n", "<|user|>"]),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(str.strip)
ANSWERS = st.builds(Turn, st.just("assistant"), TEXTS, st.none() | TEXTS, st.none() | TEXTS)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[Turn, ...]:
    turns = [Turn("system", draw(TEXTS))] if draw(st.booleans()) else []
    for answer in draw(st.lists(ANSWERS, max_size=3)):
        turns += [Turn("user", draw(TEXTS)), answer]
    return (*turns, Turn("user", draw(TEXTS)))


def both_ways(tokenizer: Tokenizer, template: Template, turns: tuple[Turn, ...]) -> None:
    encoder = ConversationEncoder(fitted(tokenizer, template), template, max_tokens=10**6)
    plain = frames_of(encoder).settings(context=99, max_new_tokens=9)
    stored = GenerationSettings.from_json(json.loads(json.dumps(plain.as_json())))
    bundled = BundleTokenizer(pack_tokenizer(encoder.tokenizer.to_str()), literal=True)
    if turns[0].role not in stored.frames:
        turns = turns[1:]
    try:
        said = [(turn.role, spoken(turn)) for turn in turns]
    except DataError:  # an answer that holds the tags of its own sections is refused in training
        return
    asked = stored.prompt_ids(said, bundled.encode)
    assert asked == encoder.encode_prompt(turns).tolist()
    assert stored.end == (encoder.end_id(),)


@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
@settings(max_examples=15, deadline=None)
@given(turns=prompts())
def test_a_byte_level_tokenizer(name: str, turns: tuple[Turn, ...]) -> None:
    both_ways(byte_tokenizer(), TEMPLATES_BY_NAME[name], turns)


@needs_stories
@pytest.mark.parametrize("name", TEMPLATES_BY_NAME)
@settings(max_examples=10, deadline=None)
@given(turns=prompts())
def test_a_sentencepiece_tokenizer(name: str, turns: tuple[Turn, ...]) -> None:
    stories = Tokenizer.from_file(str(STORIES / "tokenizer.json"))
    both_ways(stories, TEMPLATES_BY_NAME[name], turns)


def encoder_of(template: Template) -> ConversationEncoder:
    return ConversationEncoder(fitted(byte_tokenizer(), template), template, max_tokens=99)


def test_system_turns_have_a_frame_where_the_template_treats_them_as_turns() -> None:
    known = {name: "system" in frames_of(encoder_of(template)).roles
             for name, template in TEMPLATES_BY_NAME.items()}  # fmt: skip
    assert [name for name, has in known.items() if not has] == ["default_system.jinja"]
    assert frames_of(encoder_of(TEMPLATES_BY_NAME["llama3.jinja"])).roles["user"].trimmed


@pytest.mark.parametrize(
    ("source", "what"),
    [(INSTRUCTION_JINJA, "before every answer"), (COUNTING_JINJA, "every turn alike|whole conv")],
)
def test_what_cannot_be_framed_is_refused(source: str, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        frames_of(encoder_of(jinja(source)))
