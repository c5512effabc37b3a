"""Commands that look at data: data show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill.core.catalogue import Catalogue

if TYPE_CHECKING:
    from rich.console import Console

_LEARNED, _REST = "bold green", "dim"

# By name, so that --help stays quick and needs no package of the factory.
ENTRIES = Catalogue(
    "data command",
    {
        "show": "edgedistill.tasks.generation.showing:show_rows",
    },
)

data = typer.Typer(
    name="data", help="Look at rows before they are trained on.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands on data to the command line."""
    app.add_typer(data, rich_help_panel="Factory (needs edgedistill[train])")


@data.callback()
def _data() -> None:
    """Look at rows before they are trained on."""


@data.command()
def show(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Rows: .jsonl, .csv, .tsv or .parquet.", show_default=False
        ),
    ],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder with tokenizer.json. Required.", show_default=False
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="chatml, llama3 or plain; left out: the tokenizer's own, or plain if it has none.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 3,
    learn_end: Annotated[
        bool, typer.Option("--learn-end", help="Let the end of an answer be learned too.")
    ] = False,
) -> None:
    """Show rows as tokens, and which of them a generation model learns to write.

    Learned tokens are coloured and all others dim; without colours, each learned token stands in
    [brackets]. Every row of the file is read and checked, the first ones are shown.

    \b
    A row is {"prompt": …, "response": …}, perhaps with draft, thinking and metadata,
    or {"messages": [{"role": "user", "content": …}, {"role": "assistant", …}, …]}.

    \b
    Example:
      $ edgedistill data show rows.jsonl --tokenizer models/my-model --template chatml --rows 1
      <|im_start|>user↵
      What is a thermometer for?<|im_end|>↵
      <|im_start|>assistant↵
      [It][ measures][ how][ warm][ it][ is][.]<|im_end|>↵
    """
    if tokenizer is None:
        raise typer.BadParameter(
            "name the folder of the model's tokenizer: tokens differ from one to the next",
            param_hint="'--tokenizer'",
        )
    showing = ENTRIES.load("show")(
        file, tokenizer, template=template, num_rows=rows, learn_end=learn_end
    )
    from rich.console import Console

    _print(showing, _visible(str(file)), Console(highlight=False, markup=False, emoji=False))


def _print(showing: Any, file: str, console: Console) -> None:
    from rich.text import Text

    in_colour = console.is_terminal and not console.no_color
    console.print(
        f"{file}: rows: {showing.num_rows:,}, of them hard: {showing.num_hard:,}; "
        f"template: {showing.template}",
        soft_wrap=True,
    )
    if showing.added:
        console.print(
            f"note: the tokenizer lacks {', '.join(showing.added)}; shown as if it had them",
            soft_wrap=True,
        )
    if in_colour:
        legend = Text.assemble("legend: ", ("learned", _LEARNED), " ", ("not learned", _REST))
    else:
        legend = Text("legend: [learned] not learned")
    console.print(legend)
    num_tokens = num_learned = 0
    for row in showing.rows:
        num_tokens += len(row.tokens)
        num_learned += row.num_learned
        kind = "hard" if row.is_hard else "easy"
        console.print(
            f"\n{_visible(row.id)} ({kind}): {row.num_learned:,} of {len(row.tokens):,} tokens "
            "learned",
            soft_wrap=True,
        )
        console.print(_coloured(row) if in_colour else Text(_bracketed(row)), soft_wrap=True)
    console.print(f"\nshown: {num_learned:,} of {num_tokens:,} tokens learned", soft_wrap=True)


def _coloured(row: Any) -> Any:
    from rich.text import Text

    styles = {True: _LEARNED, False: _REST}
    return Text.assemble(*((_visible(token.text), styles[token.learned]) for token in row.tokens))


def _bracketed(row: Any) -> str:
    return "".join(
        f"[{_visible(token.text)}]" if token.learned else _visible(token.text)
        for token in row.tokens
    )


def _visible(text: str) -> str:
    """The text with line ends marked and with no character that could steer a terminal."""
    return "".join(map(_visible_character, text))


def _visible_character(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
