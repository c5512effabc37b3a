"""What a teacher says of the next token, kept on disk: its k likeliest tokens and the rest's sum.

All logits of 32,000 words are 64 kB a token in half precision. The 64 likeliest with their
log-probabilities, and the mass of all others as one number, are 260 bytes (388 with a vocabulary
beyond 65,536). One file of fixed-size records holds them, so that the rows of a shuffled batch are
one page each of a memory map.

Half precision keeps log p to |log p| / 2,048: a probability of 0.9 is off by 0.005 %, one of e⁻⁸
by 0.4 % at most. The tail is float32. A log-probability below -65,504 is stored as that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from edgedistill.core.errors import ModelError
from edgedistill.core.files import read_json, require_room, storage_errors, write_json

RECORDS_FILE = "topk.bin"
STATE_FILE = "topk.json"
_LEAST_HALF = float(np.finfo(np.float16).min)


@dataclass(frozen=True)
class TopK:
    """`ids` uint16 or uint32 [n, k], likeliest first; `logprobs` float16 [n, k]; `tail` float32
    [n], the log-probability of all other tokens together, -inf where there are none."""

    ids: np.ndarray
    logprobs: np.ndarray
    tail: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of a row, in memory as on disk."""
        k = self.ids.shape[1]
        return int(k * (self.ids.itemsize + self.logprobs.itemsize) + self.tail.itemsize)

    def rows(self, indices: ArrayLike) -> TopK:
        """Copies of the rows `indices`, int [m], in that order."""
        at = np.asarray(indices, dtype=np.int64)
        return TopK(*(np.array(each[at]) for each in (self.ids, self.logprobs, self.tail)))


def topk_of(logits: torch.Tensor, k: int) -> TopK:
    """The k likeliest tokens of each row of logits [n, v]; all of them where k is v or more.

    Raises:
        ModelError: a row holds nan or +inf, or nothing but -inf: no distribution.
    """
    num_rows, num_tokens = logits.shape
    if k < 1 or num_tokens < 1:
        raise ValueError(f"need k and a vocabulary of 1 at least, got {k} and {num_tokens}")
    wide = logits.detach().float()
    totals = wide.logsumexp(-1, keepdim=True)
    _require_distributions(totals)
    values, ids = wide.topk(min(k, num_tokens), dim=-1)
    if k < num_tokens:
        # Over its own tokens: 1 - (sum of the top k) would be rounding error for a sure teacher.
        tail = (wide.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True) - totals)[:, 0]
    else:
        tail = torch.full((num_rows,), -torch.inf)
    return TopK(
        ids.cpu().numpy().astype(_id_type(num_tokens)),
        (values - totals).clamp(min=_LEAST_HALF).cpu().numpy().astype(np.float16),
        tail.cpu().numpy().astype(np.float32),
    )


def _require_distributions(totals: torch.Tensor) -> None:
    """nan or ±inf anywhere that matters makes a row's sum nan or infinite."""
    wrong = ~torch.isfinite(totals[:, 0])
    if bool(wrong.any()):
        raise ModelError(
            f"the teacher's logits are not finite in {int(wrong.sum())} of {len(totals)} rows",
            where=f"row {int(wrong.nonzero()[0])}",
            fix="run the teacher in float32 or bfloat16; float16 overflows in many models",
        )


class TopKWriter:
    """Appends parts to the cache of a folder; a killed run goes on after its last whole part.

    Bytes are on the disk before the state file counts them, so what it counts is whole; what a
    killed run wrote beyond is cut off. `num_parts` and `num_tokens` say where to go on.
    """

    def __init__(self, folder: Path, *, k: int, vocabulary_size: int) -> None:
        """Open or continue.

        Raises:
            ModelError: the folder holds a cache of another k or vocabulary, or a damaged one.
            StorageError: the folder cannot be written.
        """
        self.k, self.vocabulary_size = min(k, vocabulary_size), vocabulary_size
        self._folder, self._record = folder, _record_type(self.k, vocabulary_size)
        self.num_parts = self.num_tokens = 0
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / RECORDS_FILE).touch()
        if (folder / STATE_FILE).exists():
            state = _read_state(folder)
            if (state["k"], state["vocabulary_size"]) != (self.k, vocabulary_size):
                raise ModelError(
                    f"this cache has k {state['k']} and {state['vocabulary_size']:,} tokens, "
                    f"not {self.k} and {vocabulary_size:,}",
                    where=str(folder),
                    fix="delete the folder, or choose another",
                )
            self.num_parts, self.num_tokens = state["num_parts"], state["num_tokens"]
        with storage_errors(folder):
            os.truncate(folder / RECORDS_FILE, self.num_tokens * self._record.itemsize)

    def append(self, part: TopK) -> None:
        """Add the rows of `part` behind all others; kept for good once this returns.

        Raises:
            ValueError: `part` has another k or type of ids.
            StorageError: no room, or not writable.
        """
        if part.ids.shape[1:] != (self.k,) or part.ids.dtype != self._record["ids"].base:
            raise ValueError(f"{part.ids.dtype} ids [n, {part.ids.shape[1]}] in {self._record}")
        records = np.empty(len(part), dtype=self._record)
        records["ids"], records["logprobs"], records["tail"] = part.ids, part.logprobs, part.tail
        require_room(self._folder, records.nbytes)
        path = self._folder / RECORDS_FILE
        with storage_errors(path), path.open("r+b") as stream:
            stream.seek(self.num_tokens * self._record.itemsize)
            stream.write(records.tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        self.num_parts, self.num_tokens = self.num_parts + 1, self.num_tokens + len(part)
        self._write_state(whole=False)

    def finish(self) -> TopK:
        """Say that all parts are there, and open the cache."""
        self._write_state(whole=True)
        return open_topk(self._folder)

    def _write_state(self, *, whole: bool) -> None:
        state = {
            "k": self.k,
            "vocabulary_size": self.vocabulary_size,
            "num_parts": self.num_parts,
            "num_tokens": self.num_tokens,
            "whole": whole,
        }
        write_json(self._folder / STATE_FILE, state)


def open_topk(folder: Path) -> TopK:
    """The finished cache of a folder, memory-mapped and read-only.

    Raises:
        ModelError: no cache, an unfinished one, or a damaged one.
    """
    if not (folder / STATE_FILE).is_file():
        raise ModelError("no cache of a teacher here", where=str(folder))
    state = _read_state(folder)
    if not state["whole"]:
        raise ModelError(
            f"this cache stopped after {state['num_tokens']:,} tokens",
            where=str(folder),
            fix="run again: it goes on where it stopped",
        )
    record = _record_type(state["k"], state["vocabulary_size"])
    if state["num_tokens"] == 0:  # an empty file cannot be mapped
        records: np.ndarray = np.empty(0, dtype=record)
    else:
        records = np.memmap(
            folder / RECORDS_FILE, dtype=record, mode="r", shape=(state["num_tokens"],)
        )
    return TopK(records["ids"], records["logprobs"], records["tail"])


def _read_state(folder: Path) -> dict[str, Any]:
    """What the state file counts, with the records at least as long as it says."""
    damaged = ModelError(
        "this cache of a teacher is damaged", where=str(folder), fix="delete the folder"
    )
    try:
        state: dict[str, Any] = read_json(folder / STATE_FILE)
        record = _record_type(state["k"], state["vocabulary_size"])
        size_bytes = (folder / RECORDS_FILE).stat().st_size
        missing = state["num_tokens"] * record.itemsize - size_bytes
        _ = state["num_parts"], state["whole"]
    except (KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise damaged from error
    if missing > 0:
        raise damaged
    return state


def _id_type(num_tokens: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if num_tokens <= 1 << 16 else np.uint32


def _record_type(k: int, vocabulary_size: int) -> np.dtype[Any]:
    """A token's record, little-endian and without gaps."""
    ids = np.dtype(_id_type(vocabulary_size)).newbyteorder("<")
    return np.dtype([("ids", ids, (k,)), ("logprobs", "<f2", (k,)), ("tail", "<f4")])
