"""What `compress` cannot do with a teacher, or within a size: refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.core.errors import BudgetExceeded, ModelError
from edgedistill.core.files import read_json
from edgedistill.models.teachers.sources import OWN_CLASSIFIER
from edgedistill.pipeline.pass_options import TOLERANCE, name_of, sequences, single_passes
from edgedistill.pipeline.stages.variants import forecast_share
from edgedistill.pipeline.strategy import StrategySpec
from edgedistill.tasks.classification import TextEncoder

#: Of each kind of task, what the head of a fine-tuned model must be for, and how its class ends.
_HEADS = {
    "classification": ("ForSequenceClassification", "no classifier of whole texts"),
    "extraction": ("ForTokenClassification", "no classifier of tokens"),
}


def require_compressible(spec: StrategySpec, source: Path) -> None:
    """Refuse a teacher that no pass applies to, by its config.json.

    Raises:
        ModelError: its family is unknown, or the form of its head.
    """
    if spec.compress is None or not spec.compress.is_of_teacher:
        return
    from edgedistill.models.structure.whole import require_known

    config = read_json(source / "config.json")
    try:
        require_known(str(config.get("model_type")), str(config.get("hidden_act", "gelu")))
    except ModelError as error:
        raise ModelError(error.what, where=str(source / "config.json"), fix=error.fix) from error
    is_own = spec.teacher.num_epochs > 0 or (source / OWN_CLASSIFIER).is_file()
    forms, (ending, told) = config.get("architectures") or [], _HEADS[spec.kind]
    if not is_own and forms and not any(ending in form for form in forms):
        raise ModelError(
            f"this is a {forms[0]}, {told}",
            where=str(source / "config.json"),
            fix="name a fine-tuned one (a …" + ending + "), or set teacher.num_epochs above 0",
        )


def require_reachable(
    spec: StrategySpec, source: Path, encoder: TextEncoder, ids: np.ndarray, num_labels: int
) -> None:
    """Refuse a size that no sequence of passes will reach, by arithmetic on the teacher's sizes.

    Args:
        encoder: the tokenizer that ships. ids: tokens of the training texts. num_labels: outputs
            of the head.

    Raises:
        BudgetExceeded: with what each sequence would take.
    """
    limit = spec.requirements.size_mb
    if spec.compress is None or not spec.compress.is_of_teacher or limit is None:
        return
    from edgedistill.models.families import FAMILIES
    from edgedistill.pipeline.search import COMPRESSED, compressed_of

    family, config = FAMILIES.load(COMPRESSED), read_json(source / "config.json")
    fixed, num_rows = len(encoder.packed) + 2 * encoder.num_tokens, len(np.unique(ids))
    share = forecast_share(spec)

    def size_of(options: Mapping[str, Any]) -> int:
        config_of = family.config(**options)
        return fixed + int(share * family.size_bytes(config_of, num_rows, num_labels, config))

    sizes = {each.name: size_of(each.options) for each in compressed_of(spec.compress)}
    if spec.compress.search:
        found = {name_of(p): size_of({"passes": p}) for p in sequences(single_passes(config))}
        smallest = min(found, key=found.__getitem__)
        sizes[smallest] = found[smallest]
    if min(sizes.values()) <= (1 + TOLERANCE) * limit * 1e6:
        return
    told = ", ".join(f"{name} about {size / 1e6:.1f} MB" for name, size in sizes.items())
    raise BudgetExceeded(
        f"no sequence of passes reaches {limit:g} MB: {told}",
        where="requirements.size_mb",
        fix=f"ask for {min(sizes.values()) / 1e6:.1f} MB or more, name passes with higher shares "
        "in compress.passes, or distil a smaller student",
    )
