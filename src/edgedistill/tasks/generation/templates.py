"""The templates that come with the product, by name."""

from __future__ import annotations

from edgedistill.core.catalogue import Catalogue
from edgedistill.tasks.generation.template import TurnTemplate

TEMPLATES = Catalogue(
    "chat template",
    {
        "chatml": "edgedistill.tasks.generation.templates:CHATML",
        "llama3": "edgedistill.tasks.generation.templates:LLAMA3",
        "plain": "edgedistill.tasks.generation.templates:PLAIN",
    },
)


def _llama3_turn(role: str) -> tuple[str, str]:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>"


def _chatml_turn(role: str) -> tuple[str, str]:
    return f"<|im_start|>{role}\n", "<|im_end|>\n"


# Meta's header format. Without the dates that Llama 3.1 writes into a system turn of its own:
# they would change what a model is asked from one day to the next.
LLAMA3 = TurnTemplate(
    begin="<|begin_of_text|>",
    system=_llama3_turn("system"),
    user=_llama3_turn("user"),
    assistant=_llama3_turn("assistant"),
    special_tokens=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)

CHATML = TurnTemplate(
    begin="",
    system=_chatml_turn("system"),
    user=_chatml_turn("user"),
    assistant=_chatml_turn("assistant"),
    special_tokens=("<|im_start|>", "<|im_end|>"),
)

# For tiny models trained from nothing: one token where the others spend five on a header.
PLAIN = TurnTemplate(
    begin="<|bos|>",
    system=("", ""),
    user=("<|user|>", ""),
    assistant=("<|assistant|>", "<|end|>"),
    special_tokens=("<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"),
)
