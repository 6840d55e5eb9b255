"""The command line. Heavy modules are imported inside the commands that need them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.record import RUNS
from tasks.errors import BadInput, require

app = typer.Typer(
    name="benchmarks",
    help="Reinforcement-learning and prompt-optimisation methods for small language models, on equal terms.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context) -> None:
    """Improve a policy on a task and record what it cost and bought.

    Arguments are Hydra overrides: +algo=grpo [task=wordle] [policy=tiny] [budget=quick] [seed=0] [KEY=VALUE ...].
    With -m, values separated by commas are swept: -m +algo=grpo seed=0,1,2. `list` shows the names.
    With --dry-run, the plan is printed with an estimate of what it will cost, and nothing is recorded.
    """
    from benchmarks.launch import launch

    quiet_libraries()
    try:
        sys.exit(launch(context.args))
    except KeyboardInterrupt:
        typer.echo("interrupted; what was measured so far is in the record", err=True)
        sys.exit(130)


@app.command()
def table(
    runs: Annotated[Path, typer.Option(help="Folder with the records.")] = RUNS,
    format: Annotated[str, typer.Option(help="text, json (one object a line), csv or markdown.")] = "text",
) -> None:
    """Compare the runs on record, one row per experiment."""
    from rich.console import Console

    from benchmarks.table import FORMATS, read_table, render

    require(format in FORMATS, f"--format {format}: use {', '.join(FORMATS)}")
    render(read_table(runs), format, Console())


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A record's name, the start of one, or `last`.")] = "last",
    runs: Annotated[Path, typer.Option(help="Folder with the records.")] = RUNS,
    stage: Annotated[str, typer.Option(help="final or base: after or before improving.")] = "final",
    which: Annotated[str, typer.Option(help="all, solved or unsolved.")] = "all",
    limit: Annotated[int, typer.Option(help="Samples to show.", min=1)] = 5,
    problem: Annotated[str | None, typer.Option(help="Only this problem.")] = None,
) -> None:
    """Show a run's test samples: every action with its verdict, component by component, and the feedback."""
    from rich.console import Console

    from benchmarks.reading import find_record
    from benchmarks.show import show as show_record

    show_record(find_record(runs, run), Console(), stage=stage, which=which, limit=limit, problem=problem)


@app.command("list")
def list_names() -> None:
    """List algorithms, tasks, policies and budgets."""
    from benchmarks.listing import listing

    typer.echo(listing())


def quiet_libraries() -> None:
    """Keep the libraries' chatter out of a run's output; warnings of our own and errors still show."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    for name in ("transformers", "trl", "datasets", "accelerate", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|trl|transformers|accelerate)\b.*")


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2."""
    try:
        app()
    except BadInput as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
