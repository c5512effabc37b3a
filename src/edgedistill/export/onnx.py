"""Export to ONNX: input_ids, attention_mask -> logits, features, and where a tagger has them the
logits of labels of whole texts; both axes dynamic."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edgedistill.core.artefacts import Encoded
from edgedistill.runtime.session import LABEL_LOGITS, OUTPUTS, Session

OPSET = 18
INPUTS = ["input_ids", "attention_mask"]


class _AsTuple(nn.Module):
    """The model with a plain tuple as output, for the exporter."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        output = self.model(input_ids, attention_mask)
        labels = () if output.label_logits is None else (output.label_logits,)
        return (output.logits, output.features, *labels)


class OnnxExporter:
    """Writes a model as one ONNX file with its weights inside."""

    def write(self, model: nn.Module, *, to: Path) -> Path:
        """Export `model` (left in evaluation mode) to the file `to`."""
        model = model.eval().cpu()
        example = (torch.randint(1, 5, (2, 7)), torch.ones(2, 7, dtype=torch.int64))
        with torch.no_grad():
            has_labels = model(*example).label_logits is not None
        names = [*OUTPUTS, LABEL_LOGITS] if has_labels else OUTPUTS
        batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence")
        to.parent.mkdir(parents=True, exist_ok=True)
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # The exporter warns about its own internals (deprecated tree specs, copyreg).
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _AsTuple(model), example, dynamo=True, verbose=False,
                input_names=INPUTS, output_names=names, opset_version=OPSET,
                dynamic_shapes=({0: batch, 1: sequence}, {0: batch, 1: sequence}),
            )  # fmt: skip
        assert program is not None
        proto = program.model_proto
        # Stale shapes make ONNX Runtime's quantiser fail in shape inference.
        del proto.graph.value_info[:]
        for node in proto.graph.node:
            # Names and stack traces of the source code are of no use on a device.
            node.doc_string = ""
            del node.metadata_props[:]
        onnx.save(proto, to)
        return to

    def run(self, artefact: Path, texts: Encoded, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
        """(logits, features) of the exported file, one text at a time, without padding."""
        session = Session(artefact.read_bytes(), threads=1)
        outputs = []
        for row in range(len(texts)):
            outputs.append(session.run(*texts.padded(np.array([row]), pad_id)))
        logits, features = (np.concatenate(part) for part in zip(*outputs, strict=True))
        return logits, features
