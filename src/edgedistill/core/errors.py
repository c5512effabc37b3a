"""Error families: each says what is wrong, where, and what would be right.

The command line shows them without a traceback and exits with the family's `exit_code`.
"""

from __future__ import annotations


class EdgeDistillError(Exception):
    """Base of every error that a user can mend.

    Args:
        what: what is wrong, one sentence.
        where: the place (file, line, key), as precise as known.
        fix: what would be right.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            parts.append(f"  → {self.fix}")
        return "\n".join(parts)


class SpecError(EdgeDistillError):
    """The task file is wrong."""

    exit_code = 2


class DataError(EdgeDistillError):
    """A data file cannot be used as it is."""

    exit_code = 3


class MissingExtra(EdgeDistillError):
    """An optional package is not installed."""

    exit_code = 4

    def __init__(self, feature: str, extra: str, *, where: str | None = None) -> None:
        super().__init__(
            f"{feature} needs packages that are not installed",
            where=where,
            fix=f"pip install 'edgedistill[{extra}]'",
        )


class ModelError(EdgeDistillError):
    """Weights, a model folder or a checkpoint cannot be used."""

    exit_code = 4


class CannotApply(ModelError):
    """A compression pass finds nothing to do on a model, or cannot do it: a reason, no defect."""


class MissingSignal(EdgeDistillError):
    """A method needs something of its teacher that the teacher cannot give."""

    exit_code = 4


class BudgetExceeded(EdgeDistillError):
    """The budget of the task (wall time, memory) does not suffice."""

    exit_code = 5


class BundleError(EdgeDistillError):
    """A bundle is damaged, incomplete, or of a schema that this version cannot read."""

    exit_code = 6


class RunLocked(EdgeDistillError):
    """Another process is working in the same run folder."""

    exit_code = 7


class StorageError(EdgeDistillError):
    """The disk is full, or a folder cannot be written."""

    exit_code = 8


class VerificationFailed(EdgeDistillError):
    """Measured, and not good enough: a verdict with numbers, not a crash."""

    exit_code = 10


EXIT_CODES: dict[int, str] = {
    0: "done; for `run`: SHIP; for `verify`: every file and every golden answer as promised",
    1: "unexpected failure (a defect: the traceback is in the run's log)",
    2: "task file or command line wrong",
    3: "data wrong",
    4: "missing package, model or teacher signal",
    5: "budget exceeded",
    6: "bundle damaged or of another schema",
    7: "run folder in use by another process",
    8: "disk full or folder not writable",
    10: "DO NOT SHIP (or `verify`: golden answers differ)",
    130: "interrupted; `run` again continues",
}
