"""The section on fidelity: the golden set through every hop."""

from __future__ import annotations

from edgedistill.evaluate.fidelity import Hop
from edgedistill.evaluate.report.blocks import Block, Paragraph, Section, Table
from edgedistill.evaluate.report.content import ReportContent
from edgedistill.evaluate.report.numbers import MISSING, percent
from edgedistill.evaluate.report.outcome import verdict_mark


def fidelity_section(content: ReportContent) -> Section:
    """The ledger: the golden set through every hop."""
    writes = any(hop.perplexity is not None for hop in content.ledger)
    rows = tuple(
        (
            hop.name,
            percent(hop.agreement),
            percent(hop.agreement_with_first),
            percent(hop.score),
            MISSING if hop.logit_difference is None else f"{hop.logit_difference:.3g}",
            *(_of_writing(hop) if writes else ()),
            verdict_mark(hop.holds),
            hop.note,
        )
        for hop in content.ledger
    )
    broken = next((hop for hop in content.ledger if not hop.holds), None)
    text = "One golden set through every hop, each compared with the hop before. "
    text += "Every hop holds." if broken is None else f"The first hop that breaks: {broken.name}."
    name = content.quality.score if content.quality else "accuracy"
    numbers = ["Agreement", "With the first", f"{name[0].upper()}{name[1:]}"]
    numbers.append("Largest logit change" if not writes else "Largest change of log p")
    numbers += ["Perplexity", "Change", "KL"] if writes else []
    headings = ("Hop", *numbers, "Verdict", "Note")
    table = Table(headings, rows, frozenset(range(1, len(numbers) + 1)))
    blocks: tuple[Block, ...] = (Paragraph(text), table)
    if writes:
        blocks += (Paragraph(_ABOUT_WRITING, muted=True),)
    return Section("fidelity", "Fidelity ledger", blocks)


_ABOUT_WRITING = (
    "Agreement is the share of tokens equal under greedy decoding, up to where two answers part. "
    "Perplexity is that of the right answers; its change and KL (nats a token, over the likeliest "
    "tokens and the rest) are against the hop that a row is compared with."
)


def _of_writing(hop: Hop) -> tuple[str, str, str]:
    return (
        MISSING if hop.perplexity is None else f"{hop.perplexity:.4f}",
        MISSING if hop.perplexity_change is None else f"{hop.perplexity_change:+.4f}",
        MISSING if hop.divergence is None else f"{hop.divergence:.2e}",
    )
