"""What a section is made of: the few forms that both HTML and Markdown can show.

All text in blocks is plain and unescaped; escaping is the renderers' work alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "neutral"]


@dataclass(frozen=True)
class Mark:
    """A cell that carries a judgement: its text always says it, colour only helps."""

    text: str
    tone: Tone


Cell = str | Mark


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str
    muted: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings; columns in `numeric` are aligned right."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()
    caption: str = ""
    emphasised: frozenset[int] = frozenset()
    """Indices of rows that stand out (the shipped model, the chosen score)."""


@dataclass(frozen=True)
class Figures:
    """A row of headline numbers: (label, value, remark)."""

    entries: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Plot:
    """A drawing. `svg` is trusted markup from `plots`; `alt` says in words what it shows."""

    svg: str
    title: str
    alt: str


@dataclass(frozen=True)
class Plots:
    """Drawings side by side."""

    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Items:
    """A bulleted list."""

    entries: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """Blocks beside each other where there is room, else one below the other."""

    columns: tuple[tuple[Block, ...], ...]


Block = Paragraph | Table | Figures | Plots | Items | Columns


@dataclass(frozen=True)
class Section:
    """A heading with an anchor, and what stands under it."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]
