"""Texts, ids and masks against transformers' own `apply_chat_template`."""

from __future__ import annotations

import pytest

from edgedistill.core.conversation import Conversation, Turn
from edgedistill.tasks.generation.encoding import ConversationEncoder
from edgedistill.tasks.generation.template import Template
from edgedistill.tasks.generation.templates import CHATML, LLAMA3
from small_tokenizers import (
    CHATML_JINJA,
    EASY,
    INSTRUCTION_JINJA,
    LLAMA3_JINJA,
    byte_tokenizer,
    fitted,
    jinja,
)

TURNS = (Turn("system", "Be brief."), *EASY, Turn("user", "Why?"), Turn("assistant", "So\nit is."))
# The same text as CHATML_JINJA, with the answers marked the way transformers wants it.
CHATML_MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}"
    "{% endgeneration %}{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\n' }}"
    "{% endfor %}"
)


def reference(template: Template, source: str):  # type: ignore[no-untyped-def]
    from transformers import PreTrainedTokenizerFast

    bos = "<|begin_of_text|>" if "eot_id" in source else "<s>"
    return PreTrainedTokenizerFast(
        tokenizer_object=fitted(byte_tokenizer(), template),
        chat_template=source, bos_token=bos, eos_token="</s>",
    )  # fmt: skip


def messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


@pytest.mark.parametrize(
    ("template", "source"),
    [
        (LLAMA3, LLAMA3_JINJA),
        (CHATML, CHATML_JINJA),
        (jinja(LLAMA3_JINJA), LLAMA3_JINJA),
        (jinja(CHATML_JINJA), CHATML_JINJA),
        (jinja(INSTRUCTION_JINJA), INSTRUCTION_JINJA),
    ],
    ids=["llama3", "chatml", "llama3.jinja", "chatml.jinja", "instruction.jinja"],
)
def test_texts_and_ids(template: Template, source: str) -> None:
    tokenizer = reference(template, source)
    whole = tokenizer.apply_chat_template(messages(TURNS), tokenize=False)
    assert "".join(segment.text for segment in template.segments(TURNS)) == whole
    prompt = tokenizer.apply_chat_template(
        messages(TURNS[:-1]), tokenize=False, add_generation_prompt=True
    )
    assert template.prompt_text(TURNS[:-1]) == prompt
    encoder = ConversationEncoder(tokenizer.backend_tokenizer, template, max_tokens=999)
    ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(encoder.encode(Conversation("a", TURNS)).ids) == tokenizer.decode(ids)
    if source != INSTRUCTION_JINJA:  # its words run into each other, here they are kept apart
        assert encoder.encode(Conversation("a", TURNS)).ids.tolist() == ids


def test_the_mask() -> None:
    tokenizer = reference(CHATML, CHATML_MARKED)
    expected = tokenizer.apply_chat_template(
        messages(TURNS), return_dict=True, return_assistant_tokens_mask=True
    )
    encoder = ConversationEncoder(tokenizer.backend_tokenizer, CHATML, max_tokens=999)
    encoded = encoder.encode(Conversation("a", TURNS))
    assert encoded.ids.tolist() == expected["input_ids"]
    assert encoded.learned.astype(int).tolist() == expected["assistant_masks"]
    assert 0 < encoded.learned.sum() < len(encoded.learned)
