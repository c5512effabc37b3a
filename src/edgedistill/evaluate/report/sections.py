"""The sections of a report in their order, and the list of what a report lacks."""

from __future__ import annotations

from edgedistill.evaluate.report.behaviour import (
    boundary_section,
    calibration_section,
    edge_cases_section,
    flips_section,
    robustness_section,
)
from edgedistill.evaluate.report.blocks import Items, Section
from edgedistill.evaluate.report.content import ReportContent
from edgedistill.evaluate.report.ensemble import ensemble_section
from edgedistill.evaluate.report.fields import fields_section, labels_section
from edgedistill.evaluate.report.forgetting import forgetting_section
from edgedistill.evaluate.report.ledger import fidelity_section
from edgedistill.evaluate.report.outcome import (
    quality_section,
    requirements_section,
    shipped_section,
)
from edgedistill.evaluate.report.provenance import data_section, making_section, non_goals_section
from edgedistill.evaluate.report.removal import removal_section
from edgedistill.evaluate.report.search import search_section
from edgedistill.evaluate.report.side_by_side import versions_section
from edgedistill.evaluate.report.strategies import strategies_section


def build_sections(content: ReportContent) -> tuple[Section, ...]:
    """Every section that has something to show; the last one names those that have not."""
    c = content
    found: dict[str, Section | None] = {
        "requirements": requirements_section(c),
        "what ships": shipped_section(c.shipped) if c.shipped else None,
        "quality": quality_section(c.quality) if c.quality else None,
        "original and versions": versions_section(c, c.versions) if c.versions else None,
        # Named among what a report lacks it would puzzle readers of other kinds of task.
        **({"fields": fields_section(c.fields)} if c.fields else {}),
        **({"labels": labels_section(c.labels)} if c.labels else {}),
        **({"ensemble": ensemble_section(c.ensemble)} if c.ensemble else {}),
        **({"forgetting": forgetting_section(c.earlier_steps)} if c.earlier_steps else {}),
        "fidelity ledger": fidelity_section(c) if c.ledger else None,
        **({"strategies": strategies_section(c.strategies)} if c.strategies else {}),
        "candidates and passes": search_section(c) if c.candidates or c.passes else None,
        **({"removal": removal_section(c.removal)} if c.removal else {}),
        "boundary": boundary_section(c.boundary) if c.boundary else None,
        "calibration": calibration_section(c.calibration) if c.calibration else None,
        "robustness": robustness_section(c.robustness) if c.robustness else None,
        "edge cases": edge_cases_section(c.edge_cases) if c.edge_cases else None,
        "worst classes": flips_section(c.flips) if c.flips else None,
        "data": data_section(c) if c.splits or c.data_findings else None,
        "how it was made": making_section(c.making) if c.making else None,
        "non-goals": non_goals_section(c) if c.non_goals else None,
    }
    sections = [section for section in found.values() if section]
    missing = tuple(name for name, section in found.items() if section is None)
    if missing:
        sections.append(Section("missing", "Not in this report", (Items(missing),)))
    return tuple(sections)
