"""Small tokenizers and chat templates for tests of conversations."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from edgedistill.core.conversation import Turn
from edgedistill.tasks.generation.chat_template import ChatTemplate, from_tokenizer
from edgedistill.tasks.generation.encoding import with_special_tokens
from edgedistill.tasks.generation.template import Template
from edgedistill.tasks.generation.templates import TEMPLATES

STORIES = Path(__file__).parents[2] / "shared" / "models" / "stories260K" / "hf"
needs_stories = pytest.mark.skipif(not STORIES.is_dir(), reason="shared/models is not here")

CORPUS = ["user assistant system the thermometer measures how warm it is, draft thinking response"]

# Meta's template of Llama 3: it trims what people wrote.
LLAMA3_JINJA = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
CHATML_JINJA = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Folds the system text into the question; the model writes the space before its answer.
INSTRUCTION_JINJA = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = '<<' + messages[0]['content'] + '>>' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


def byte_tokenizer(*, normalised: bool = False) -> Tokenizer:
    """A byte-level BPE tokenizer: decoding gives back every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalised:
        tokenizer.normalizer = normalizers.NFKC()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return tokenizer


def jinja(source: str) -> ChatTemplate:
    """The template with the variables that its tokenizer would give it."""
    llama = source == LLAMA3_JINJA
    return from_tokenizer(
        source,
        variables={"bos_token": "<|begin_of_text|>" if llama else "<s>", "eos_token": "</s>"},
    )


def all_templates() -> dict[str, Template]:
    """Every template that the product brings, and three of tokenizers."""
    own: dict[str, Template] = {name: TEMPLATES.load(name) for name in TEMPLATES}
    return own | {
        "llama3.jinja": jinja(LLAMA3_JINJA),
        "chatml.jinja": jinja(CHATML_JINJA),
        "instruction.jinja": jinja(INSTRUCTION_JINJA),
    }


def fitted(tokenizer: Tokenizer, template: Template) -> Tokenizer:
    """The tokenizer with all special tokens that any template of these tests writes."""
    tokenizer = with_special_tokens(tokenizer, template)
    for name in TEMPLATES:
        tokenizer = with_special_tokens(tokenizer, TEMPLATES.load(name))
    return tokenizer


QUESTION = (Turn("user", "What is a thermometer for?"),)
EASY = (*QUESTION, Turn("assistant", "It measures how warm it is."))
HARD = (*QUESTION, Turn("assistant", "To measure.", draft="To read.", thinking="Too short."))
