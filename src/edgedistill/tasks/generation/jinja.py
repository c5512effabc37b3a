"""A template in the language of chat templates, for those who run the model file elsewhere."""

from __future__ import annotations

import json

from edgedistill.tasks.generation.chat_template import ChatTemplate
from edgedistill.tasks.generation.template import Template, TurnTemplate


def jinja_of(template: Template) -> str:
    """Jinja that renders messages as the template does; in a GGUF file, llama.cpp reads it.

    Unlike the product's own frames it knows text alone: a mark that a user writes is a mark.
    """
    if isinstance(template, ChatTemplate):
        return template.jinja
    assert isinstance(template, TurnTemplate), "there are two sorts of templates"
    turns = "".join(
        f"{{% {'elif' if number else 'if'} message['role'] == '{role}' %}}"
        f"{_said(before)}{{{{ message['content'] }}}}{_said(behind)}"
        for number, (role, (before, behind)) in enumerate(
            (role, getattr(template, role)) for role in ("system", "user", "assistant")
        )
    )
    return (
        f"{_said(template.begin)}{{% for message in messages %}}{turns}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{_said(template.assistant[0])}{{% endif %}}"
    )


def _said(text: str) -> str:
    return f"{{{{ {json.dumps(text)} }}}}" if text else ""
