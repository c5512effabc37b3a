"""What computes an ONNX file on this machine: execution providers of ONNX Runtime.

The file is the same for all of them, so this is a choice of the device, not of the bundle.
"""

from __future__ import annotations

from typing import Any

from edgedistill.core.errors import SpecError

CPU, TENSORRT = "cpu", "tensorrt"
#: By name: ONNX Runtime's own names in order; what the first cannot compute goes to the next.
PROVIDERS = {
    CPU: ("CPUExecutionProvider",),
    TENSORRT: ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
_INSTALL = {
    TENSORRT: "install onnxruntime-gpu in the place of onnxruntime, and the CUDA, cuDNN and "
    "TensorRT libraries of the versions that it asks for; or leave the provider out",
}


def providers_of(name: str) -> list[str]:
    """The providers that a session is opened with.

    Args:
        name: a key of `PROVIDERS`.

    Raises:
        SpecError: an unknown name, or one that this ONNX Runtime was built without.
    """
    # Here, so that who runs another runtime does not load this one.
    import onnxruntime

    if name not in PROVIDERS:
        raise SpecError(
            f"the provider {name!r}", where="provider", fix=f"one of: {', '.join(PROVIDERS)}"
        )
    available, wanted = onnxruntime.get_available_providers(), PROVIDERS[name]
    if wanted[0] not in available:
        raise SpecError(
            f"{wanted[0]} is not in ONNX Runtime {onnxruntime.__version__} as installed here "
            f"(there are {', '.join(available)})",
            where="provider",
            fix=_INSTALL[name],
        )
    return [each for each in wanted if each in available]


def require_taken(session: Any, name: str) -> None:
    """Refuse a session that fell back: where libraries do not load, ONNX Runtime only logs it.

    Raises:
        SpecError: the first provider of `name` is not the session's.
    """
    wanted, taken = PROVIDERS[name][0], session.get_providers()
    if wanted not in taken:
        raise SpecError(
            f"{wanted} did not start, {taken[0]} took its place", where="provider",
            fix=_INSTALL[name],
        )  # fmt: skip
