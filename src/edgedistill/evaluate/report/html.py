"""The report as one HTML file."""

from __future__ import annotations

from html import escape

from edgedistill.evaluate.report.content import ReportContent
from edgedistill.evaluate.report.outcome import summarise
from edgedistill.evaluate.report.page import page
from edgedistill.evaluate.report.sections import build_sections


def render_html(content: ReportContent) -> str:
    """The whole report as one document."""
    verdict = "SHIP" if content.ships else "DO NOT SHIP"
    footer = f'<footer class="verdict {_tone(content)}"><strong>{verdict}</strong></footer>\n'
    title = f"{content.task}: {verdict}"
    return page(title, _header(content, verdict), build_sections(content), footer)


def _tone(content: ReportContent) -> str:
    return "good" if content.ships else "bad"


def _header(content: ReportContent, verdict: str) -> str:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in content.reasons)
    description = f"<p>{escape(content.description)}</p>" if content.description else ""
    return (
        f'<header><p class="eyebrow">EdgeDistill report · {escape(content.created)}</p>'
        f"<h1>{escape(content.task)}</h1>{description}</header>"
        f'<div class="verdict {_tone(content)}"><strong>{verdict}</strong>'
        f"{f'<ul>{reasons}</ul>' if reasons else ''}</div>"
        f'<p class="summary">{escape(summarise(content))}</p>'
    )
