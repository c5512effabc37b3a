"""The peer: what Olive finds for the same file, rows, metrics and time, by its own search."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compression_search_files import Found, Reading
from edgedistill.core.files import read_json, write_json

SCRIPT = Path(__file__).with_name("compression_search_olive_script.py")
RUN = Path(__file__).with_name("compression_search_olive_run.py")
#: In its words: so many weights share a scale; products in what the model has, or in bytes.
_BLOCKS, _LEVELS, _BITS = (32, 128), (0, 4), (4, 8)
#: Of a pass, the settings that are told.
_TOLD = (
    "precision", "per_channel", "reduce_range", "calibrate_method", "quant_format", "bits",
    "block_size", "is_symmetric", "accuracy_level",
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Token ids of validation texts, their classes, token ids of training texts to calibrate
    with."""

    validation: list[list[int]]
    targets: list[int]
    calibration: list[list[int]]


@dataclass(frozen=True)
class Finding:
    """What Olive made and scored, what each of its searches came to, and the seconds of all."""

    files: Sequence[Found] = ()
    searches: Sequence[str] = ()
    seconds: float = 0.0


def is_installed() -> bool:
    """Whether Olive and what its search needs are here."""
    return all(importlib.util.find_spec(name) for name in ("olive", "optuna", "torchmetrics"))


def olive_version() -> str:
    """Of the package."""
    return version("olive-ai")


def find_with_olive(
    full: Path,
    folder: Path,
    rows: Rows,
    shape: Mapping[str, Any],
    reading: Reading,
    *,
    seconds: float,
    seed: int,
) -> Finding:
    """Search the settings of each of its passes in turn, with its share of the time that is left.

    One search over sequences it offers, too, but in version 0.13.0 that fails: its Optuna samplers
    forget which pass of a group they took, and a model that two samples share cannot be noted
    twice ("FootprintNode" object has no field "model_config").

    Args:
        full: the model's ONNX file in full precision. shape: its `config.json`.
        folder: for its files, emptied first: a search that begins with an earlier one's results
            would have had more time.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder = folder.resolve()
    given = folder / "rows.json"
    write_json(given, asdict(rows))
    workflow = _workflow(full.resolve(), given, max(rows.targets) + 1) | {
        "cache_dir": str(folder / "cache"), "evaluate_input_model": False,
    }  # fmt: skip
    flows = _flows(shape)
    asked = {"workflow": workflow, "flows": flows, "seconds": seconds, "seed": seed}
    write_json(folder / "asked.json", asked)
    # Its reports on how it is used stay at home.
    environment = {
        **os.environ, "OLIVE_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, str(RUN), str(folder)], check=True, stdout=log,
            stderr=subprocess.STDOUT, env=environment, cwd=folder,
        )  # fmt: skip
    files, searches = dict[Path, Found](), list[str]()
    for name in flows:
        made = _made(name, folder / name / "footprint.json", reading)
        searches.append(f"{name} {len(made)} files" if made else f"{name} none (see log.txt)")
        files |= {each.file: each for each in made}
    return Finding(list(files.values()), searches, read_json(folder / "seconds.json"))


def _workflow(full: Path, given: Path, num_classes: int) -> dict[str, Any]:
    """All but the passes: accuracy, p50 and bytes decide, those that it measures itself."""
    own: dict[str, Any] = {"user_script": str(SCRIPT), "dataloader_config": {"batch_size": 1}}
    params = {"path": str(given)}
    here = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    return {
        "input_model": {"type": "ONNXModel", "model_path": str(full)},
        "systems": {"here": {"type": "LocalSystem", "accelerators": [here]}},
        "data_configs": [
            {"name": "calibration", **own,
             "load_dataset_config": {"type": "calibration_rows", "params": params}},
            {"name": "validation", **own,
             "load_dataset_config": {"type": "validation_rows", "params": params},
             "post_process_data_config": {"type": "class_of_logits"}},
        ],
        "evaluators": {"three": {"type": "OnnxEvaluator", "metrics": _metrics(num_classes)}},
        "evaluator": "three", "host": "here", "target": "here",
    }  # fmt: skip


def _metrics(num_classes: int) -> list[dict[str, Any]]:
    one = {"session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1}}
    rows = {
        "data_config": "validation", "user_config": {"inference_settings": {"onnx": one}},
    }  # fmt: skip
    micro = {"task": "multiclass", "num_classes": num_classes, "average": "micro"}
    often = {"warmup_num": 100, "repeat_test_num": 500}
    return [
        {"name": "accuracy", "type": "accuracy", **rows, "sub_types": [
            {"name": "accuracy_score", "priority": 1, "metric_config": micro}
        ]},
        {"name": "latency", "type": "latency", **rows, "sub_types": [
            {"name": "p50", "priority": 2, "metric_config": often}
        ]},
        {"name": "size", "type": "size_on_disk", "sub_types": [{"name": "bytes", "priority": 3}]},
    ]  # fmt: skip


def _flows(shape: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Its passes for an encoder on a CPU: fused as a BERT, and rounded, as it is or after that.
    Settings that it would search by itself are left to it; the last search has the most."""
    fuse = {
        "type": "OrtTransformersOptimization", "model_type": "bert",
        "num_heads": shape["num_attention_heads"], "hidden_size": shape["hidden_size"],
    }  # fmt: skip
    grouped = {"block_size": _one_of(_BLOCKS), "accuracy_level": _one_of(_LEVELS)}
    dynamic = {"type": "OnnxDynamicQuantization"}
    # Types of what is fused are not inferred: without one for them it is refused. Statically it is
    # refused in any case (ranges of the softmax).
    floats = {"extra_options": {"DefaultTensorType": 1}}
    found: dict[str, tuple[bool, dict[str, Any]]] = {
        "fused": (False, fuse),
        "dynamic": (False, dynamic),
        "fused-dynamic": (True, {**dynamic, **floats}),
        "fused-rtn": (True, {
            "type": "OnnxBlockWiseRtnQuantization", "bits": _one_of(_BITS),
            "is_symmetric": _one_of((True, False)), **grouped,
        }),
        "fused-hqq": (True, {"type": "OnnxHqqQuantization", **grouped}),
        "fused-kquant": (True, {
            "type": "OnnxKQuantQuantization", "bits": _one_of(_BITS), **grouped,
        }),
        "static": (False, {"type": "OnnxStaticQuantization", "data_config": "calibration"}),
    }  # fmt: skip
    return {
        name: {"of_fused": of_fused, "passes": {"only": only}}
        for name, (of_fused, only) in found.items()
    }


def _one_of(values: Sequence[Any]) -> dict[str, Any]:
    return {
        "olive_parameter_type": "SearchParameter", "type": "Categorical", "support": list(values),
    }  # fmt: skip


def model_files(footprint: Path) -> list[Path]:
    """The files of a search that have a score."""
    return [file for _, file in _scored(footprint)]


def _scored(footprint: Path) -> list[tuple[Mapping[str, Any], Path]]:
    nodes = read_json(footprint) if footprint.exists() else {}
    scored = []
    for node in nodes.values():
        if not node.get("metrics") or node["parent_model_id"] is None:
            continue
        file = Path(node["model_config_data"]["config"]["model_path"])
        if file.is_dir():
            (file,) = file.glob("*.onnx")
        scored.append((node, file))
    return scored


def _made(name: str, footprint: Path, reading: Reading) -> list[Found]:
    made = []
    for node, file in _scored(footprint):
        values = {key: each["value"] for key, each in node["metrics"]["value"].items()}
        config = node["pass_run_config"]
        chosen = [f"{key} {config[key]}" for key in _TOLD if config.get(key) is not None]
        made.append(Found(
            ", ".join([name, *chosen]), file, file.stat().st_size + reading.size_bytes,
            values["accuracy-accuracy_score"], values["latency-p50"],
        ))  # fmt: skip
    return made
