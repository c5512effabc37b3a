"""What `edgedistill plan` says against real checkpoints, and an 890-MB system against arithmetic.

python benchmarks/size_plan.py            writes docs/results/size-plan.md and .json
python benchmarks/size_plan.py --quick    the small models alone, writes nothing

No weights are needed: small models are written to disk from their config with random weights,
the others are built on torch's meta device. Published bytes are in published_checkpoints.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig

from edgedistill.pipeline.packaging import machine
from edgedistill.sizing.config_file import read_config
from edgedistill.sizing.plan import Plan, Wishes, make_plan
from published_checkpoints import BEYOND_THE_CLASS, WHOLE, Checkpoint
from results import Result, write_results
from size_claims import Claim, Claims, fitting

COMMAND = "python benchmarks/size_plan.py"
BAR = "1 ± 0.1 %"
#: Models of fewer parameters are really written.
WRITTEN = 200_000_000
QUICK = ("all-minilm-l6-v2", "distilbert-base-uncased")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    names = [name for name in WHOLE if not quick or name in QUICK]
    results, rows = [], []
    for name in names:
        plan = make_plan(name, Wishes())
        published = WHOLE[name]
        planned = _planned(plan, published)
        built, how = _built(name, plan)
        results.append(_ratio(f"{name}: planned bytes over the published", planned,
                              published.size_bytes))  # fmt: skip
        results.append(_ratio(f"{name}: planned bytes over transformers' ({how})",
                              _own(plan, how), built))  # fmt: skip
        rows.append(_row(name, plan, planned, published, built, how))
        print(rows[-1], flush=True)
    claims = Claims().all()
    for claim in claims:
        print(f"{'stands' if claim.stands else 'fails '} {claim.lines}: {claim.says}: "
              f"{claim.value:.4g} {claim.unit} ({claim.bar})")  # fmt: skip
    if quick:
        return 0 if all(result.holds for result in results) else 1
    write_results("size-plan", "Sizes by arithmetic", results, _notes(rows, claims),
                  more=[_as_result(claim) for claim in claims])  # fmt: skip
    return 0


def _planned(plan: Plan, published: Checkpoint) -> int:
    """An index counts the numbers, a file its header too."""
    size = plan.chosen_size
    return size.size_bytes - (size.overhead_bytes if published.is_sharded else 0)


def _own(plan: Plan, how: str) -> int:
    size = plan.chosen_size
    return size.size_bytes - (size.overhead_bytes if how == "meta" else 0)


def _built(name: str, plan: Plan) -> tuple[int, str]:
    """Bytes of the model that `transformers` builds of the config, and how it was built."""
    values = dict(read_config(name).values)
    config = AutoConfig.for_model(**values)
    kind = getattr(transformers, values["architectures"][0])
    dtype = getattr(torch, plan.network.stored_as)
    if plan.network.num_parameters < WRITTEN:
        with tempfile.TemporaryDirectory() as folder:
            kind(config).to(dtype).save_pretrained(folder)
            return (Path(folder) / "model.safetensors").stat().st_size, "written"
    with torch.device("meta"):
        model = kind(config).to(dtype)
    tied = model.all_tied_weights_keys
    sizes = (each.numel() * each.element_size()
             for name, each in model.state_dict().items() if name not in tied)  # fmt: skip
    return sum(sizes), "meta"


def _ratio(claim: str, planned: int, real: int) -> Result:
    ratio = planned / real
    return Result(claim, ratio, ratio, ratio, "", BAR, abs(ratio - 1) <= 0.001, [0], COMMAND,
                  machine())  # fmt: skip


def _row(
    name: str, plan: Plan, planned: int, published: Checkpoint, built: int, how: str
) -> str:  # fmt: skip
    return (
        f"| {name} | {plan.network.num_parameters:,} | {planned:,} | {published.size_bytes:,} | "
        f"{planned - published.size_bytes:+,} | {_own(plan, how) - built:+,} ({how}) | "
        f"{published.source} |"
    )


def _as_result(claim: Claim) -> Result:
    return Result(f"line {claim.lines}: {claim.says}", claim.value, claim.value, claim.value,
                  claim.unit, claim.bar, claim.stands, [0], COMMAND, machine())  # fmt: skip


def _notes(rows: list[str], claims: list[Claim]) -> list[str]:
    return [
        "Ratios are of bytes to bytes; nothing here depends on a seed or on the machine.",
        "",
        "## Public checkpoints, to the byte",
        "",
        "Planned: from the config alone, the safetensors header included where the published "
        "figure is of a file, left out where it is the `total_size` of an index. Built: of the "
        "same config by transformers, really written where the model is small, on torch's meta "
        "device, numbers alone, where it is not.",
        "",
        "| config | parameters | planned bytes | published bytes | planned − published "
        "| planned − built | published in |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "all-MiniLM-L6-v2 was written by an older version, with a table of position numbers.",
        "",
        "### Where a checkpoint holds more than its class",
        "",
        "Plan tells of the class that the config names. These files hold tensors besides, which "
        "that class does not read:",
        "",
        "| config | planned | published | difference | what the file has more | its bytes |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_beyond(name, each) for name, each in BEYOND_THE_CLASS.items()),
        "",
        "## The claims of an 890-MB system of an 8-B model",
        "",
        "The specification \"Cogumi-LLM\" (13 November 2025) promises Llama-3.1-8B with a draft "
        "model, three adapters, a router and meta-learning in 890 MB. Each line about a size, "
        "with what it would require. A rounded figure stands within 5 % (about: 10 %).",
        "",
        "| line | it says | exact, or what it would require | it would have to be | stands | why |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_claim_row(claim) for claim in claims),
        "",
        f"{sum(claim.stands for claim in claims)} of {len(claims)} stand.",
        "",
        "### What is feasible",
        "",
        "The whole of Llama-3.1-8B with 890 MB for its weights: nothing. What "
        "`edgedistill plan llama-3.1-8b --max-mb 890` calls nearest:",
        "",
        *_nearest(make_plan("llama-3.1-8b", Wishes(max_mb=890))),
        "",
        "Fewer blocks means a network that has to be trained again; gguf_q3_k and coarser "
        "are written by llama.cpp alone. What a size of 540 MB, and of 890 MB, holds whole, each "
        "model in its finest scheme:",
        "",
        "| model | within 540 MB | within 890 MB |",
        "| --- | --- | --- |",
        *_fitting(),
        "",
        "What such a model then can do, no config tells: it has to be measured.",
    ]  # fmt: skip


def _beyond(name: str, checkpoint: Checkpoint) -> str:
    planned = make_plan(name, Wishes()).chosen_size.size_bytes
    return (
        f"| {name} | {planned:,} | {checkpoint.size_bytes:,} | "
        f"{checkpoint.size_bytes - planned:,} | {checkpoint.more} | {checkpoint.more_bytes:,} |"
    )


def _claim_row(claim: Claim) -> str:
    return (
        f"| {claim.lines} | {claim.says} | {claim.value:,.4g} {claim.unit} | {claim.bar} | "
        f"{'yes' if claim.stands else '**no**'} | {claim.reason} |"
    )


def _nearest(plan: Plan) -> list[str]:
    assert plan.nearest is not None
    lines = ["| | scheme | bits a weight | blocks | MB |", "| --- | --- | --- | --- | --- |"]
    for title, found in (("whole", plan.nearest.smallest),
                         ("fewer blocks", plan.nearest.fewer_blocks)):  # fmt: skip
        lines += [
            f"| {title} | {each.scheme} | {each.bits_per_weight:.2f} | {each.num_blocks} | "
            f"{each.disk_bytes / 1e6:,.0f} |"
            for each in found
        ]
    return lines


def _fitting() -> list[str]:
    names = ["tinyllama-1.1b", "llama-3.2-1b", "qwen3-0.6b", "qwen2.5-0.5b", "smollm2-135m"]
    columns = []
    for size in (540, 890):
        columns.append(
            {name: f"{scheme} ({bits:.2f} bits), {megabytes:,.0f} MB"
             for name, scheme, bits, megabytes in fitting(size, names)}
        )  # fmt: skip
    return [
        f"| {name} | {columns[0].get(name, '–')} | {columns[1].get(name, '–')} |" for name in names
    ]


if __name__ == "__main__":
    sys.exit(main())
