"""Settings of `strategy: auto`: how much may be spent on finding out what a student learns best."""

from __future__ import annotations

from typing import Any

from edgedistill.core.search_time import SearchTime

AUTO = "auto"


class StrategySearch(SearchTime):
    """What `strategy: auto` may spend on trying strategies."""


def with_search(settings: Any) -> Any:
    """Settings of distillation as a file gives them, with `strategy: auto` told by the presence of
    `search`: what is asked of the plain strategy then holds until another is chosen.

    Raises:
        ValueError: `search` without `strategy: auto`.
    """
    if not isinstance(settings, dict):
        return settings
    if settings.get("strategy") == AUTO:
        others = {key: value for key, value in settings.items() if key != "strategy"}
        return {**others, "search": settings.get("search") or {}}
    if settings.get("search") is not None:
        raise ValueError("search is what strategy: auto may spend; without it leave search out")
    return settings


def and_auto(schema: dict[str, Any]) -> None:
    """Let a JSON Schema of strategies name `auto`, too."""
    schema["anyOf"] = [{"const": AUTO, "type": "string"}, *schema["anyOf"]]
    schema["default"] = "response"
