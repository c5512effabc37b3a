"""The Jinja of a template renders what the template does, and llama.cpp finds it in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

import small_llama
from edgedistill.core.conversation import Turn
from edgedistill.export.gguf import write_gguf
from edgedistill.runtime.generation.gguf_header import read_header
from edgedistill.tasks.generation.chat_template import from_tokenizer
from edgedistill.tasks.generation.jinja import jinja_of
from edgedistill.tasks.generation.templates import TEMPLATES

TURNS = (
    Turn("system", "Be short.\n"),
    Turn("user", 'two "rye" loaves {{ x }} {% y %}'),
    Turn("assistant", "größer"),
    Turn("user", "你好"),
)


@pytest.mark.parametrize("name", ["plain", "chatml", "llama3"])
@pytest.mark.parametrize("turns", [TURNS, TURNS[1:2]])
def test_prompts_are_rendered_alike(name: str, turns: tuple[Turn, ...]) -> None:
    template = TEMPLATES.load(name)
    # As transformers and llama.cpp set it up.
    found = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
        jinja_of(template)
    )
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    said = found.render(messages=messages, add_generation_prompt=True)
    assert said == template.prompt_text(turns)


def test_a_tokenizer_s_own_is_handed_on_with_its_date() -> None:
    source = "{% for m in messages %}[{{ m['content'] }}]{{ eos_token }}{% endfor %}"
    plain = from_tokenizer(source, variables={"eos_token": "</s>"})
    assert jinja_of(plain) == source
    dated = from_tokenizer("{{ strftime_now('%d') }}" + source, variables={"eos_token": "</s>"})
    found = ImmutableSandboxedEnvironment().from_string(jinja_of(dated))
    said = found.render(messages=[{"role": "user", "content": "hi"}], eos_token="</s>")
    assert said == dated.prompt_text((Turn("user", "hi"),))


def test_it_stands_in_the_file(tmp_path: Path) -> None:
    jinja = jinja_of(TEMPLATES.load("plain"))
    written = write_gguf(
        small_llama.make_model(), small_llama.make_tokenizer(), to=tmp_path / "m.gguf",
        chat_template=jinja,
    )  # fmt: skip
    assert read_header(written.path).metadata["tokenizer.chat_template"] == jinja
