"""The command `plan`: sizes from a config.json alone."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from edgedistill.core.catalogue import Catalogue
from edgedistill.core.errors import BudgetExceeded, SpecError

# By name: the command line imports nothing before a command runs.
ENTRIES = Catalogue(
    "plan",
    {
        "plan": "edgedistill.sizing.plan:make_plan",
        "wishes": "edgedistill.sizing.plan:Wishes",
        "adapters": "edgedistill.sizing.parts:Adapters",
        "lines": "edgedistill.sizing.tables:lines",
        "as_json": "edgedistill.sizing.tables:as_json",
    },
)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(plan)


def plan(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A Hugging Face config.json, a folder with one, or a known name: llama-3.1-8b, "
            "bert-base-uncased, … (a wrong name lists them all).",
            show_default=False,
        ),
    ],
    max_mb: Annotated[
        float | None, typer.Option(help="Most bytes of all files, in 10^6.", show_default=False)
    ] = None,
    max_memory_mb: Annotated[
        float | None, typer.Option(help="Most bytes in memory, in 10^6.", show_default=False)
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            help="How the weights are stored: one of the table's names (fp16, onnx_int4, "
            "gguf_q4_k, …), mixed, or ROLE=FORMAT,… Left out: as published, or whatever keeps the "
            "budget.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Tokens in the cache. Left out: 4096, or all the model has if fewer.",
            show_default=False,
        ),
    ] = None,
    kv: Annotated[
        str | None,
        typer.Option(
            help="Precision of the cache: f32, f16, q8_0, q5_1, q5_0, q4_1, q4_0. Left "
            "out: f16, or the finest that keeps the budget.",
            show_default=False,
        ),
    ] = None,
    draft: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG", help="A small model that proposes tokens.", show_default=False
        ),
    ] = None,
    draft_scheme: Annotated[
        str | None, typer.Option(help="Its scheme. Left out: the model's.", show_default=False)
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(help="Rank of LoRA adapters.", show_default=False)
    ] = None,
    lora_targets: Annotated[
        str, typer.Option(help="Adapted layers by their last names (q_proj,v_proj), or all.")
    ] = "all",
    num_adapters: Annotated[int, typer.Option(help="How many adapters.")] = 1,
    lora_format: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp16",
    router: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHS",
            help="Widths of a feed-forward router: 768,256,32.",
            show_default=False,
        ),
    ] = None,
    other_mb: Annotated[float, typer.Option(help="What else is on the disk, in 10^6.")] = 0.0,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Work out what a model takes on disk and in memory, from its config.json alone.

    Nothing is downloaded, no weights are read. File sizes are exact, with the file's own header
    and without the tokenizer unless it lies beside the config. Of the memory, weights and cache
    are exact; what is computed in is a formula. Libraries and the process come on top.

    \b
    Exit code 5: nothing keeps the budget; what comes nearest is shown.

    \b
    Examples:
      $ edgedistill plan llama-3.1-8b
      $ edgedistill plan my-model/ --max-mb 500 --max-memory-mb 900 --context 8192
      $ edgedistill plan llama-3.1-8b --scheme attention=int8,mlp=int4_g32
      $ edgedistill plan smollm2-135m --scheme onnx_awq_int4 --kv f32
      $ edgedistill plan llama-3.1-8b --draft llama-3.2-1b --lora-rank 16 \\
          --num-adapters 3 --scheme awq_g128 --draft-scheme gguf_q4_k
    """
    adapters = None
    if lora_rank is not None:
        targets = tuple(each.strip() for each in lora_targets.split(","))
        adapters = ENTRIES.load("adapters")(lora_rank, targets, num_adapters, lora_format)
    wishes = ENTRIES.load("wishes")(
        scheme=scheme, context=context, precision=kv, max_mb=max_mb, max_memory_mb=max_memory_mb,
        draft=draft, draft_scheme=draft_scheme, adapters=adapters,
        router=_widths(router) if router is not None else (), other_mb=other_mb,
    )  # fmt: skip
    made = ENTRIES.load("plan")(config, wishes)
    if as_json:
        typer.echo(json.dumps(ENTRIES.load("as_json")(made), ensure_ascii=False, indent=2))
    else:
        for line in ENTRIES.load("lines")(made, tensors=tensors):
            typer.echo(line)
    if made.nearest is not None:
        least = made.nearest.smallest[0]
        raise BudgetExceeded(
            f"nothing keeps the budget: the smallest whole system, {least.scheme}, takes "
            f"{least.disk_bytes / 1e6:,.1f} MB on disk and about "
            f"{least.memory.peak_bytes / 1e6:,.1f} MB in memory",
            where=config,
            fix="a higher budget, a smaller model, or one of those shown as within it",
        )


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError as error:
        raise SpecError(f"{text!r} are no widths", where="--router", fix="768,256,32") from error
