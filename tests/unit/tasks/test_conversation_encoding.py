"""Templates and the encoder: exact texts, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from edgedistill.core.conversation import Conversation, Turn, require_order
from edgedistill.core.errors import DataError, SpecError
from edgedistill.tasks.generation.chat_template import from_tokenizer
from edgedistill.tasks.generation.encoding import (
    ConversationEncoder,
    missing_special_tokens,
    with_special_tokens,
)
from edgedistill.tasks.generation.sections import Sections, assistant_text, read_sections
from edgedistill.tasks.generation.templates import CHATML, LLAMA3, PLAIN, TEMPLATES
from small_tokenizers import (
    CHATML_JINJA,
    EASY,
    HARD,
    INSTRUCTION_JINJA,
    QUESTION,
    byte_tokenizer,
    fitted,
    jinja,
)

SYSTEM = Turn("system", "Be brief.")
WHOLE_TEXTS = {
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhat is a thermometer for?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nIt measures how warm it is.<|eot_id|>",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is a thermometer "
    "for?<|im_end|>\n<|im_start|>assistant\nIt measures how warm it is.<|im_end|>\n",
    "plain": "<|bos|>Be brief.<|user|>What is a thermometer for?<|assistant|>It measures how warm "
    "it is.<|end|>",
}


def encoder(tokenizer: Tokenizer | None = None, **settings: Any) -> ConversationEncoder:
    settings = {"max_tokens": 1000, "template": PLAIN} | settings
    template = settings.pop("template")
    return ConversationEncoder(
        fitted(tokenizer or byte_tokenizer(), template), template, **settings
    )


def test_every_template_has_a_text_to_compare_with() -> None:
    assert set(WHOLE_TEXTS) == set(TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_text_of_a_template(name: str) -> None:
    template = TEMPLATES.load(name)
    text = "".join(segment.text for segment in template.segments((SYSTEM, *EASY)))
    assert text == WHOLE_TEXTS[name]
    answer = "It measures how warm it is."
    assert template.prompt_text((SYSTEM, *QUESTION)) == text[: text.index(answer)]


def test_hard_answers_are_sections_and_easy_ones_bare() -> None:
    assert assistant_text(EASY[-1]) == "It measures how warm it is."
    assert assistant_text(HARD[-1]) == (
        "<draft>To read.</draft><thinking>Too short.</thinking><response>To measure.</response>"
    )
    only_thinking = Turn("assistant", "Yes.", thinking="Hm.")
    assert assistant_text(only_thinking) == "<thinking>Hm.</thinking><response>Yes.</response>"
    learned = [s.text for s in LLAMA3.segments(HARD) if s.learned]
    assert learned == [assistant_text(HARD[-1])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", Sections("Yes.")),
        ("", Sections("")),
        ("<draft>a</draft>\n<thinking>b</thinking>\n<response>c</response>\n",
         Sections("c", "a", "b")),
        ("<response>c</response>", Sections("c")),
        ("<draft>a</draft><thinking>b", Sections(None)),
        ("<draft>a</draft> c", Sections(None)),
        ("see <draft>a</draft>", Sections("see <draft>a</draft>")),
    ],
)  # fmt: skip
def test_reading_sections(text: str, expected: Sections) -> None:
    assert read_sections(text) == expected


@pytest.mark.parametrize(
    "turn",
    [
        Turn("assistant", "<draft>x"),
        Turn("assistant", "<response>x</response>"),
        Turn("assistant", "r", draft="a</draft><thinking>b</thinking><response>c"),
        Turn("assistant", "  ", thinking="hm"),
    ],
)
def test_answers_whose_sections_could_not_be_told_apart_are_refused(turn: Turn) -> None:
    with pytest.raises(DataError):
        assistant_text(turn)


def test_sections_with_many_tags_are_read_in_time() -> None:
    tags = "<draft>" + "</draft><thinking></thinking><response>" * 3000
    assert read_sections(tags) == Sections(None)


@pytest.mark.parametrize(
    ("turns", "what"),
    [
        ((), "the last turn"),
        ((SYSTEM,), "the last turn"),
        ((Turn("assistant", "hi"),), "turn 1 is of the role 'assistant', due is 'user'"),
        ((SYSTEM, Turn("assistant", "hi")), "turn 2 is of the role 'assistant', due is 'user'"),
        ((*EASY, SYSTEM, *EASY), "turn 3 is of the role 'system', due is 'user'"),
        ((*QUESTION, *QUESTION), "turn 2 is of the role 'user', due is 'assistant'"),
        (QUESTION, "the last turn is not the assistant's"),
        ((*QUESTION, Turn("assistant", " ")), "turn 2: the response is empty"),
        ((*QUESTION, Turn("assistant", "", thinking="hm")), "though there is a thinking"),
        ((*QUESTION, Turn("assistant", "a", draft=" ")), "turn 2: the draft is empty"),
        ((Turn("user", "\n"), EASY[-1]), "turn 1: the user's text is empty"),
        ((Turn("user", "a", thinking="b"), EASY[-1]), "a user turn has a thinking"),
    ],
)
def test_turns_that_are_no_conversation(turns: tuple[Turn, ...], what: str) -> None:
    with pytest.raises(DataError, match="row-7") as caught:
        Conversation("row-7", turns)
    assert what in str(caught.value)
    with pytest.raises(DataError):
        CHATML.segments(turns)


def test_a_conversation_knows_its_prompt_and_response() -> None:
    conversation = Conversation("a", (SYSTEM, *EASY, *HARD), {"difficulty": "hard"})
    assert conversation.prompt == (SYSTEM, *EASY, *QUESTION)
    assert conversation.response == "To measure."
    assert conversation.is_hard
    assert not Conversation("a", EASY).is_hard
    assert hash(conversation) == hash(Conversation("a", (SYSTEM, *EASY, *HARD), {}))
    require_order(conversation.prompt, last="user")


def test_ids_and_mask_are_of_the_promised_types() -> None:
    encoded = encoder().encode(Conversation("a", EASY))
    assert encoded.ids.dtype == np.int32
    assert encoded.learned.dtype == np.bool_
    assert encoded.ids.shape == encoded.learned.shape
    assert encoder().encode_prompt(QUESTION).dtype == np.int32


def test_too_long_rows_are_named_and_never_cut() -> None:
    conversation = Conversation("row-7", EASY)
    length = len(encoder().encode(conversation).ids)
    assert len(encoder(max_tokens=length).encode(conversation).ids) == length
    with pytest.raises(DataError, match=f"row-7: {length} tokens, at most {length - 1}"):
        encoder(max_tokens=length - 1).encode(conversation)
    with pytest.raises(DataError, match="at most 3 may be"):
        encoder(max_tokens=3).encode_prompt(QUESTION)


def test_settings_of_the_tokenizer_neither_cut_nor_pad() -> None:
    tokenizer = byte_tokenizer()
    plain = encoder(tokenizer).encode(Conversation("a", EASY)).ids
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    assert np.array_equal(encoder(tokenizer).encode(Conversation("a", EASY)).ids, plain)


def test_a_prompt_that_ends_with_an_answer_is_refused() -> None:
    with pytest.raises(DataError, match="not the user's"):
        encoder().encode_prompt(EASY)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DataError, match="surrogate"):
        encoder().encode_prompt((Turn("user", "a\ud800"),))


def test_special_tokens_that_are_missing_are_named_or_added() -> None:
    tokenizer = byte_tokenizer()
    with pytest.raises(SpecError, match=r"<\|im_start\|>, <\|im_end\|>"):
        ConversationEncoder(tokenizer, CHATML, max_tokens=9)
    assert missing_special_tokens(tokenizer, CHATML) == CHATML.special_tokens
    added = with_special_tokens(tokenizer, CHATML)
    assert missing_special_tokens(added, CHATML) == ()
    assert added.get_vocab_size() == tokenizer.get_vocab_size() + 2
    assert with_special_tokens(added, CHATML).get_vocab_size() == added.get_vocab_size()


def control_free(encoder: ConversationEncoder, text: str) -> bool:
    ids = encoder.encode_prompt((Turn("user", text),)).tolist()
    harmless = encoder.encode_prompt((Turn("user", "x"),)).tolist()
    special = set(encoder.tokenizer.get_added_tokens_decoder())
    return [i for i in ids if i in special] == [i for i in harmless if i in special]


def test_added_tokens_that_are_not_special_cannot_be_written_either() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(list(PLAIN.special_tokens))  # matched in every text, unless guarded
    assert tokenizer.encode("a<|end|>b").tokens == ["a", "<|end|>", "b"]
    guarded = ConversationEncoder(tokenizer, PLAIN, max_tokens=99)
    assert control_free(guarded, "a<|end|>b")


def test_normalised_look_alikes_do_not_become_special_tokens() -> None:
    tokenizer = byte_tokenizer(normalised=True)
    tokenizer.add_special_tokens([AddedToken(t, normalized=True) for t in PLAIN.special_tokens])
    assert "<|end|>" in tokenizer.encode("a＜｜end｜＞b").tokens
    guarded = ConversationEncoder(tokenizer, PLAIN, max_tokens=99)
    assert control_free(guarded, "a＜｜end｜＞b")


def test_a_tokenizer_that_has_no_other_way_to_write_a_special_token_refuses_it() -> None:
    words = ["[UNK]", "x", *PLAIN.special_tokens]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[UNK]", *PLAIN.special_tokens])
    guarded = ConversationEncoder(tokenizer, PLAIN, max_tokens=99)
    assert len(guarded.encode_prompt((Turn("user", "x unheard x"),))) == 6
    with pytest.raises(DataError, match=r"<\|end\|>"):
        guarded.encode_prompt((Turn("user", "x <|end|>"),))


def test_a_text_of_no_token_is_refused() -> None:
    tokenizer = Tokenizer(models.BPE({"x": 0}, []))
    with pytest.raises(DataError, match="no token at all"):
        encoder(tokenizer).encode_prompt((Turn("user", "é"),))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{% for m in messages %}{{ m.content }}", "cannot be rendered (TemplateSyntaxError"),
        ("{{ raise_exception('no roles, please') }}", "no roles, please"),
        ("{{ messages[0].content + 1 }}", "cannot be rendered (TypeError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "cannot be rendered (SecurityError"),
        ("<s>{{ messages[0].content }}</s>", "drops"),
        ("{% for m in messages %}{{ m.content + m.content }}{% endfor %}", "twice"),
        ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "order"),
        ("{% for m in messages %}[{{ m.content | upper }}]{% endfor %}", "rewrites"),
        ("{% for m in messages %}<s>{{ m.content }}{% endfor %}"
         "{% if add_generation_prompt %}</s>{% endif %}", "not the beginning"),
        # As reasoning models do: the last answer is framed, earlier ones are not.
        ("{% for m in messages %}{{ m.role }}{% if loop.last and m.role == 'assistant' %}<think>"
         "</think>{% endif %}{{ m.content }}{% endfor %}"
         "{% if add_generation_prompt %}assistant!{% endif %}", "not the beginning"),
    ],
)  # fmt: skip
def test_chat_templates_that_cannot_be_used(source: str, what: str) -> None:
    with pytest.raises(SpecError) as caught:
        from_tokenizer(source)
    assert what in str(caught.value)
    assert "chat template" in str(caught.value)


def test_a_chat_template_that_refuses_a_role_says_so() -> None:
    template = from_tokenizer(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
        + CHATML_JINJA
    )
    assert template.prompt_text(QUESTION).endswith("<|im_start|>assistant\n")
    with pytest.raises(SpecError, match="no system turns"):
        template.prompt_text((SYSTEM, *QUESTION))


def test_what_a_template_leaves_to_the_model_is_learned() -> None:
    pieces = jinja(INSTRUCTION_JINJA).segments((SYSTEM, *EASY))
    assert "".join(p.text for p in pieces if p.learned) == " It measures how warm it is."
    assert pieces[0].text == "<s>[INST] <<"


def test_the_date_stands_still() -> None:
    template = from_tokenizer("{{ strftime_now('%Y') }}\n" + CHATML_JINJA)
    assert template.prompt_text(QUESTION).startswith("26 Jul 2024\n<|im_start|>")


def test_marks_of_the_rendering_cannot_be_forged() -> None:
    turn = Turn("user", "\ue0000\ue0010\ue002 \ue0001\ue0011\ue002")
    pieces = jinja(CHATML_JINJA).segments((turn, EASY[-1]))
    assert [p.text for p in pieces if not p.is_markup] == [turn.content, EASY[-1].content]


def test_an_end_that_nothing_marks_cannot_be_learned() -> None:
    source = "{% for m in messages %}{{ '<s>' + m.content }}{% endfor %}"
    template = from_tokenizer(source + "{% if add_generation_prompt %}<s>{% endif %}")
    encoder(template=template).encode(Conversation("a", EASY))
    with pytest.raises(SpecError, match="no special token stands behind an answer"):
        encoder(template=template, learn_end=True).encode(Conversation("a", EASY))
