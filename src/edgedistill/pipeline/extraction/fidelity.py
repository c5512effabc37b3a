"""The ledger of a tagger: the same texts through every hop, token by token and label by label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgedistill.evaluate.fidelity import Hop, HopBars, Ledger
from edgedistill.pipeline.extraction.artefact import Artefact
from edgedistill.pipeline.extraction.outputs import (
    GoldTexts,
    Said,
    said_by_file,
    said_by_module,
)
from edgedistill.pipeline.extraction.student import Ground
from edgedistill.pipeline.stages.variants import LEAST_AGREEMENT, MOST_LOST_ACCURACY
from edgedistill.runtime.extraction.extractor import Extractor
from edgedistill.runtime.extraction.labels import value_columns
from edgedistill.runtime.networks import Network, load_network

#: Validation texts that go through every hop.
NUM_GOLDEN = 200


def keep_ledger(ground: Ground, artefact: Artefact, extractor: Extractor) -> tuple[Hop, ...]:
    """Carry validation texts through every hop: rows are tokens, answers their tags; then, for each
    label of whole texts, rows are texts, answers its values."""
    documents = ground.data.rows.validation
    rows = np.linspace(0, len(documents) - 1, min(NUM_GOLDEN, len(documents))).astype(int)
    gold = GoldTexts([documents[row] for row in rows], ground.teacher)
    raw = [extractor.raw(document.text) for document in gold.documents]
    said = {
        "teacher": said_by_module(ground.teacher.load(), gold),
        "student": said_by_module(artefact.student.load(), gold),
        "exported": said_by_file(_session(artefact.full), gold.grids)[0],
        "compressed": said_by_file(_session(artefact.model), gold.grids)[0],
        "run from the bundle": Said(
            [one.logits for one in raw], np.concatenate([one.label_logits for one in raw])
        ),
    }
    tags = Ledger(gold.tags)
    for name, found in said.items():
        logits = np.concatenate(list(found.tags))
        bars = _bars(len(gold.tags)).get(name)
        tags.record(name, gold.decoded(found.tags), logits=logits, bars=bars)
    hops = list(tags.hops)
    labels = ground.teacher.encoder.labels
    for place, (label, columns) in enumerate(zip(labels, value_columns(labels), strict=True)):
        ledger = Ledger(gold.labels[:, place])
        for name, found in said.items():
            values = gold.labelled(found.labels)[:, place]
            bars = _bars(len(values)).get(name)
            ledger.record(name, values, logits=found.labels[:, columns], bars=bars)
        hops += [replace(hop, name=f"{label.name}, {hop.name}") for hop in ledger.hops]
    return tuple(hops)


def _bars(num_rows: int) -> dict[str, HopBars]:
    """What hops must keep; one answer of a small golden set must not break one."""
    one = 1.0 / num_rows
    return {
        "exported": HopBars(agreement=1.0 - one, logit_difference=0.01),
        "compressed": HopBars(
            agreement=min(LEAST_AGREEMENT, 1 - 2 * one) - one,
            score_drop=MOST_LOST_ACCURACY + 2 * one,
        ),
        "run from the bundle": HopBars(agreement=1.0, logit_difference=1e-5),
    }


def _session(file: Path) -> Network:
    return load_network(file.read_bytes(), threads=1)
