"""One HTML file of sections: no scripts, no links to elsewhere, light and dark, printable."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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
from edgedistill.evaluate.report.style import STYLE

# Nothing may load or run, whatever a text of the data set says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_NUM_NARROW_COLUMNS = 4


def page(title: str, header: str, sections: Sequence[Section], footer: str = "") -> str:
    """The whole document; `header` and `footer` are markup, everything else is text."""
    navigation = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    body = "".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{header}\n<nav>{navigation}</nav>\n{body}"
        f"{footer}</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    blocks = "".join(_block(block) for block in section.blocks)
    return f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>{blocks}</section>\n'


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            style = ' class="muted"' if block.muted else ""
            return f"<p{style}>{escape(block.text)}</p>"
        case Table():
            return _table(block)
        case Figures():
            return _figures(block)
        case Plots():
            drawings = "".join(
                f"<figure><figcaption>{escape(plot.title)}</figcaption>{plot.svg}</figure>"
                for plot in block.plots
            )
            return f'<div class="plots">{drawings}</div>'
        case Items():
            entries = "".join(f"<li>{escape(entry)}</li>" for entry in block.entries)
            return f"<ul>{entries}</ul>"
        case Columns():
            columns = "".join(
                f"<div>{''.join(_block(inner) for inner in column)}</div>"
                for column in block.columns
            )
            return f'<div class="columns">{columns}</div>'


def _figures(figures: Figures) -> str:
    tiles = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><p>{escape(remark)}</p></div>"
        for label, value, remark in figures.entries
    )
    return f'<dl class="figures">{tiles}</dl>'


def _table(table: Table) -> str:
    def style(column: int) -> str:
        return ' class="number"' if column in table.numeric else ""

    head = "".join(f"<th{style(i)}>{escape(text)}</th>" for i, text in enumerate(table.headings))
    rows = []
    for number, row in enumerate(table.rows):
        cells = "".join(f"<td{style(i)}>{_cell(cell)}</td>" for i, cell in enumerate(row))
        strong = ' class="strong"' if number in table.emphasised else ""
        rows.append(f"<tr{strong}>{cells}</tr>")
    narrow = ' class="narrow"' if len(table.headings) <= _NUM_NARROW_COLUMNS else ""
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="table"><table{narrow}>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, Mark):
        return f'<span class="mark {cell.tone}">{escape(cell.text)}</span>'
    return escape(cell)
