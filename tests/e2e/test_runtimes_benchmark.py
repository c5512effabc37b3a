"""The benchmark of runtimes runs: its quick form, from a network to the claims."""

from __future__ import annotations

from quick_benchmark import quick_form


def test_quick_form_measures_what_is_installed_and_names_the_rest() -> None:
    told = quick_form("runtimes")
    lines = told.splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ") and "---" not in line]
    cases = {name.strip(): (float(ms), difference) for name, _, ms, difference, _ in rows[1:]}
    assert {
        "torch fp32", "ORT fp32", "ORT dynamic INT8", "ORT group INT4", "ORT fp32, level none",
        "ORT fp32, fused",
    } <= set(cases)  # fmt: skip
    assert all(ms > 0 for ms, _ in cases.values())
    for exact in ("ORT fp32", "ORT fp32, level none", "ORT fp32, fused"):
        assert float(cases[exact][1].split()[0]) < 1e-3
    assert float(cases["ORT group INT4"][1].split()[0]) > 1e-3
    for runtime in ("LiteRT", "OpenVINO", "TensorRT"):
        assert any(name.startswith(runtime) for name in cases) or f"skipped: {runtime}" in told
    assert "transformer fusions before the session's own, full precision: " in told
