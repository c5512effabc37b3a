"""What a task file may say of the file that a student is exported to, in its section `compress`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.core.file_passes import FilePasses
from edgedistill.core.section import Section

#: The pass that stores the grid that training rounds to.
TRAINED_FOR = "group_int4"


class AwareSpec(Section):
    """Training on with products rounded to INT4, to answer as in full precision."""

    num_epochs: Annotated[int, Field(ge=1, le=100)] = 3
    """Most epochs over the transfer set; the one nearest to full precision on validation counts."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """Peak of the learning rate."""


class FileCompression(Section):
    """What is done to the student before it ships."""

    artefact: FilePasses | None = None
    """Passes over the exported file in their order (docs/how-to/compress-the-file.md): what they
    make is what ships. Left out: sequences are tried, and the one that pays is kept."""
    quantisation_aware: AwareSpec | None = None
    """Given (`{}` for its defaults), the student is trained on for INT4 before it is exported: with
    `group_int4` among the passes, which stores the very weights that were trained."""

    runtime: Literal["onnxruntime", "litert", "auto"] = "onnxruntime"
    """What runs the file (docs/how-to/choose-a-runtime.md): `litert` reads short texts on a CPU in
    less time; `auto` makes files for both and keeps the one that pays."""

    @model_validator(mode="after")
    def _is_for_what_runs_it(self) -> Self:
        if self.runtime != "onnxruntime" and self.asked:
            raise ValueError(
                f"runtime: {self.asked[0]} is a pass over a file for ONNX Runtime: leave out the "
                "passes on the file, or runtime"
            )
        return self

    @model_validator(mode="after")
    def _stores_what_was_trained(self) -> Self:
        if self.quantisation_aware is not None and TRAINED_FOR not in (self.artefact or ()):
            raise ValueError(
                f"quantisation_aware trains for {TRAINED_FOR}: name it in artefact, too"
            )
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """The passes on the file that are named; empty where several sequences are tried."""
        return tuple(self.artefact or ())

    @property
    def asked_at(self) -> tuple[str, ...]:
        """The key of each of them in the task file."""
        return tuple(f"compress.artefact.{place}" for place in range(len(self.artefact or ())))
