"""The report as Markdown (GitHub flavour); plots are told in words."""

from __future__ import annotations

import re

from edgedistill.evaluate.report.blocks import (
    Block,
    Cell,
    Columns,
    Figures,
    Items,
    Mark,
    Paragraph,
    Plots,
    Section,
    Table,
)
from edgedistill.evaluate.report.content import ReportContent
from edgedistill.evaluate.report.outcome import summarise
from edgedistill.evaluate.report.sections import build_sections

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
_LIST_START = re.compile(r"^([-+=]|\d+[.)])(?=\s|$|[-=])")
_LINK = re.compile(r"(?i)\b(https?|ftp|www)([:.])|@")


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no markup, HTML, links or new rows."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    escaped = _SPECIAL.sub(r"\\\1", line)
    escaped = _LIST_START.sub(lambda m: f"{m[1][:-1]}\\{m[1][-1]}", escaped)
    # A bare address would become a link.
    return _LINK.sub(lambda m: "&#64;" if m[0] == "@" else f"{m[1]}&#{ord(m[2])};", escaped)


def render_markdown(content: ReportContent) -> str:
    """The whole report."""
    verdict = "SHIP" if content.ships else "DO NOT SHIP"
    head = [
        f"# {escape_markdown(content.task)}: {verdict}",
        escape_markdown(content.description),
        "\n".join(f"- {escape_markdown(reason)}" for reason in content.reasons),
        escape_markdown(summarise(content)),
        f"Measured {escape_markdown(content.created)}.",
    ]
    parts = [part for part in head if part]
    parts += [_section(section) for section in build_sections(content)]
    return "\n\n".join([*parts, f"**Verdict: {verdict}**"]) + "\n"


def _section(section: Section) -> str:
    blocks = [_block(block) for block in section.blocks]
    return "\n\n".join([f"## {escape_markdown(section.title)}", *(b for b in blocks if b)])


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return escape_markdown(block.text)
        case Table():
            return _table(block)
        case Figures():
            # The table that follows headline numbers says the same.
            return ""
        case Plots():
            return "\n\n".join(
                f"*Plot in the HTML report: {escape_markdown(plot.alt)}.*" for plot in block.plots
            )
        case Items():
            return "\n".join(f"- {escape_markdown(entry)}" for entry in block.entries)
        case Columns():
            return "\n\n".join(_block(inner) for column in block.columns for inner in column)


def _table(table: Table) -> str:
    alignment = ["---:" if i in table.numeric else "---" for i in range(len(table.headings))]
    lines = [_row([escape_markdown(heading) for heading in table.headings]), _row(alignment)]
    for number, row in enumerate(table.rows):
        cells = [_cell(cell) for cell in row]
        if number in table.emphasised:
            cells[0] = f"**{cells[0]}**"
        lines.append(_row(cells))
    text = "\n".join(lines)
    return f"{escape_markdown(table.caption)}\n\n{text}" if table.caption else text


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Mark):
        return f"**{escape_markdown(cell.text)}**"
    return escape_markdown(cell)
