"""Section `compress` of a task file: what is done to the student before it ships."""

from __future__ import annotations

from edgedistill.core.file_passes import FilePasses
from edgedistill.core.section import Section


class CompressSpec(Section):
    """What is done to the student before it ships."""

    artefact: FilePasses | None = None
    """Passes over the exported file in their order (docs/how-to/compress-the-file.md): what they
    make is what ships. Left out: sequences are tried, and the one that pays is kept."""
