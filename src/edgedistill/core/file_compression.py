"""What a task file may say of the file that a student is exported to, in its section `compress`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgedistill.core.file_passes import FilePasses, takes_first
from edgedistill.core.section import Section

#: The passes that store what training of a kind ends with, by the kind's key.
TRAINED_FOR = {
    "quantisation_aware": ("group_int4",),
    "sparse_training": ("sparse_half", "sparse_two_of_four"),
}


class AwareSpec(Section):
    """Training on with products rounded to INT4, to answer as in full precision."""

    num_epochs: Annotated[int, Field(ge=1, le=100)] = 3
    """Epochs over the transfer set; the one nearest to full precision on validation counts."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak of the learning rate; left out: 1e-4 where a product that is rounded has 64 inputs (the
    median), in inverse proportion to them otherwise (1.7e-5 for 384)."""


class SparseSpec(Section):
    """Training on with weights left out, to answer as with all of them."""

    by: Literal["magnitude", "movement"] = "magnitude"
    """What stays: the weights that are largest, or those that training moves away from zero."""
    num_epochs: Annotated[int, Field(ge=1, le=100)] = 3
    """Epochs over the transfer set, in half of which the sparsity rises; the one nearest to full
    precision on validation counts."""
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

    sparse_training: SparseSpec | None = None
    """Given (`{}` for its defaults), the student is trained on to do without the weights that are
    left out before it is exported: with `sparse_half` or `sparse_two_of_four` among the passes,
    which leaves out the very weights that training did."""

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
        if self.quantisation_aware is not None and self.sparse_training is not None:
            raise ValueError(
                "quantisation_aware and sparse_training train for different files: leave one out"
            )
        if self.trained_by is not None and self.trained_for is None:
            passes = " or ".join(TRAINED_FOR[self.trained_by])
            raise ValueError(
                f"{self.trained_by} trains for {passes}: name it in artefact, too, with nothing "
                "in front that takes what it takes"
            )
        return self

    @property
    def trained_by(self) -> str | None:
        """The key of the training for a pass that is asked for; None where none is."""
        return next((key for key in TRAINED_FOR if getattr(self, key) is not None), None)

    @property
    def trained_for(self) -> str | None:
        """The pass that stores what that training ends with."""
        passes = self.artefact or ()
        stores = TRAINED_FOR.get(self.trained_by or "", ())
        return next((name for name in stores if takes_first(name, passes)), None)

    @property
    def asked(self) -> tuple[str, ...]:
        """The passes on the file that are named; empty where several sequences are tried."""
        return tuple(self.artefact or ())

    @property
    def asked_at(self) -> tuple[str, ...]:
        """The key of each of them in the task file."""
        return tuple(f"compress.artefact.{place}" for place in range(len(self.artefact or ())))
