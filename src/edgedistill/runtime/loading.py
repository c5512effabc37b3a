"""From a path to a runner."""

from __future__ import annotations

from pathlib import Path

from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import BundleError
from edgedistill.runtime.bundle import Bundle, open_bundle
from edgedistill.runtime.providers import CPU
from edgedistill.runtime.runner import Runner

RUNNERS = Catalogue(
    "kind of bundle",
    {
        "classification": "edgedistill.runtime.classification:Classifier",
        "extraction": "edgedistill.runtime.extraction.extractor:Extractor",
        "generation": "edgedistill.runtime.generation.generator:Generator",
    },
)


def load(path: str | Path, *, threads: int | None = None, provider: str = CPU) -> Runner:
    """Open a bundle (folder or archive), check every hash, and make it ready to predict.

    Args:
        path: the bundle.
        threads: threads of the runtime; None takes the number stated in the bundle.
        provider: what computes an ONNX file: `cpu`, or `tensorrt` through ONNX Runtime.

    Raises:
        BundleError: nothing there, damaged, incomplete, of a newer schema, or unable to run.
        SpecError: a provider that is not there, or that this bundle cannot use.
    """
    return runner_of(open_bundle(path), threads=threads, provider=provider)


def runner_of(bundle: Bundle, *, threads: int | None = None, provider: str = CPU) -> Runner:
    """The runner of an opened bundle; arguments and errors as of `load`."""
    kind = bundle.manifest.kind
    if kind not in RUNNERS:
        raise BundleError(
            f"a bundle of kind {kind!r}; this version runs {', '.join(RUNNERS)}",
            where=str(bundle.path),
            fix="upgrade edgedistill",
        )
    runner: Runner = RUNNERS.load(kind).from_files(
        bundle.manifest, bundle.files, threads=threads, provider=provider
    )
    return runner
