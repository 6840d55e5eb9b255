"""The command line. Heavy modules are imported inside the commands that need them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.records.record import RUNS
from benchmarks.records.store import is_url, readable
from benchmarks.running.quiet import quiet_libraries
from benchmarks.sweep.campaign_defaults import DEFAULTS
from tasks.errors import BadInput, RunFailed, require

RECORDS = "Folder with the records, or a store's URL: s3://bucket/runs."
WORDS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For commands that take Hydra's words, `~KEY` and +KEY=VALUE among them."""
app = typer.Typer(
    name="benchmarks",
    help="Reinforcement-learning and prompt-optimisation methods for small language models, under equal conditions.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"grpo-bench {version('grpo-bench')}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What every command takes."""


@app.command(context_settings=WORDS)
def run(
    context: typer.Context,
    many: Annotated[
        bool, typer.Option("--multirun", "-m", help="Sweep over values separated by commas: seed=0,1,2.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run will cost, and record nothing.")
    ] = False,
    cfg: Annotated[
        str | None,
        typer.Option("--cfg", "-c", help="Print every key and its value (job, hydra or all), and run nothing."),
    ] = None,
    resolve: Annotated[bool, typer.Option("--resolve", help="With --cfg: values in place of references.")] = False,
    package: Annotated[str | None, typer.Option("--package", "-p", help="With --cfg: only these keys: algo.")] = None,
    config_dir: Annotated[
        Path | None, typer.Option("--config-dir", "-cd", help="Folder with presets of your own, a group a folder.")
    ] = None,
) -> None:
    """Improve a policy on a task and record what it cost and gained.

    Arguments are Hydra overrides: +algo=grpo [task=wordle] [policy=tiny] [budget=quick] [seed=0] [KEY=VALUE ...].
    `list` shows the names, `list algo grpo` an algorithm's keys, `run +algo=grpo --cfg job` all keys.
    +experiment=NAME takes a file of conf/experiment/, with -m the sweep that it holds.
    --info [config|defaults|defaults-tree|searchpath|plugins] prints how Hydra composes the configuration.
    """
    from benchmarks.resume.interruption import ignore_interruptions
    from benchmarks.sweep.launch import launch, show

    quiet_libraries()
    words, info = without_info(context.args)
    try:
        if cfg is not None:
            require(cfg in ("job", "hydra", "all"), f"--cfg {cfg}: use job, hydra or all")
            show(words, config_dir, cfg_type=cfg, package=package, resolve=resolve)
            return
        if info is not None:
            show(words, config_dir, info=info)
            return
        sys.exit(launch(words, many=many, dry_run=dry_run, config_dir=config_dir))
    except KeyboardInterrupt:
        ignore_interruptions()
        typer.echo("interrupted; the same command resumes", err=True)
        sys.exit(130)


def without_info(words: list[str]) -> tuple[list[str], str | None]:
    """The overrides, and what --info asks for: its value may be left out, which Typer cannot say."""
    if "--info" not in words and "-i" not in words:
        info = None
    else:
        place = next(place for place, word in enumerate(words) if word in ("--info", "-i"))
        value = place + 1 < len(words) and "=" not in words[place + 1]
        info = words[place + 1] if value else "all"
        words = words[:place] + words[place + 1 + value :]
    for word in words:
        require(not word.startswith("-"), f"unknown option {word}; `run --help` lists the options")
    return words, info


@app.command(
    context_settings=WORDS, epilog=f"Defaults: {' '.join(f'{key}={value}' for key, value in DEFAULTS.items())}"
)
def campaign(
    context: typer.Context,
    span: Annotated[
        str | None, typer.Option("--for", help="Stop in good order after so long: 9m, 540s, 2h. Without: at the end.")
    ] = None,
    state: Annotated[Path, typer.Option(help="Folder with records, warm starts, logs and report.")] = Path(
        "results/campaign"
    ),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and their states, and run nothing.")
    ] = False,
) -> None:
    """Every algorithm on every task, seed by seed, in one command that can be interrupted and resumed.

    Arguments are KEY=VALUE as in `run`, with values separated by commas for +algo, task and seed; TASK.KEY=VALUE sets
    a key of one task, such as gsm8k.path=DIR. Ends with the report and the claims of what is complete.
    """
    from benchmarks.sweep.campaign import campaign as carry_on
    from benchmarks.sweep.campaign import seconds

    quiet_libraries()
    allowed = None if span is None else seconds(span)
    try:
        sys.exit(carry_on(context.args, state, allowed, typer.echo, dry_run=dry_run))
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command resumes", err=True)
        sys.exit(130)


@app.command()
def table(
    runs: Annotated[str, typer.Option(help=RECORDS)] = str(RUNS),
    format: Annotated[str, typer.Option(help="text, json (one object a line), csv or markdown.")] = "text",
) -> None:
    """Compare the runs on record, one row per experiment."""
    from rich.console import Console

    from benchmarks.analysis.table import FORMATS, read_table, render

    require(format in FORMATS, f"--format {format}: use {', '.join(FORMATS)}")
    render(read_table(readable(runs)), format, Console())


@app.command()
def compare(
    names: Annotated[
        list[str], typer.Argument(help="Algorithms, experiments' hashes, or record names, or their start.")
    ],
    runs: Annotated[str, typer.Option(help=RECORDS)] = str(RUNS),
    metric: Annotated[str, typer.Option(help="solved, score, or one of the task's metrics.")] = "solved",
    task: Annotated[str | None, typer.Option(help="Only runs on this task.")] = None,
    policy: Annotated[str | None, typer.Option(help="Only runs with this policy.")] = None,
    budget: Annotated[str | None, typer.Option(help="Only runs with this budget.")] = None,
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Differences between algorithms, paired by problem and seed, and what could have been seen."""
    from rich.console import Console

    from benchmarks.analysis.comparison import FORMATS, choose, render
    from benchmarks.analysis.comparison import compare as compare_experiments
    from benchmarks.analysis.experiments import read_experiments
    from benchmarks.records.reading import say_set_aside

    require(format in FORMATS, f"--format {format}: use {', '.join(FORMATS)}")
    experiments, aside = read_experiments(readable(runs))
    say_set_aside(aside)
    narrowed = {"task": task, "policy": policy, "budget": budget}
    chosen = [choose(experiments, name, narrowed) for name in names]
    render(compare_experiments(chosen, experiments, metric), format, Console())


@app.command()
def claims(
    runs: Annotated[str, typer.Option(help=RECORDS)] = str(RUNS),
    policy: Annotated[str, typer.Option(help="Runs with this policy.")] = "tiny",
    budget: Annotated[str, typer.Option(help="Runs with this budget.")] = "quick",
    missing: Annotated[bool, typer.Option("--missing", help="Print the sweeps that would decide the claims.")] = False,
    format: Annotated[str, typer.Option(help="text or json (one object a claim).")] = "text",
) -> None:
    """Answer every claim in conf/claims: supported, refuted, equivalent or undecided."""
    from rich.console import Console

    from benchmarks.analysis.claims import FORMATS, answer, load_claims, print_missing, render
    from benchmarks.analysis.experiments import read_experiments
    from benchmarks.records.reading import say_set_aside

    require(format in FORMATS, f"--format {format}: use {', '.join(FORMATS)}")
    # Without any record every claim is undecided, and --missing says what to run first.
    nothing = missing and not is_url(runs) and not Path(runs).exists()
    experiments, aside = ([], []) if nothing else read_experiments(readable(runs))
    say_set_aside(aside)
    answers = [answer(claim, experiments, policy, budget) for claim in load_claims()]
    if missing:
        print_missing(answers, policy, runs)
    else:
        render(answers, format, Console())


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A record's name, the start of one, or `last`.")] = "last",
    runs: Annotated[str, typer.Option(help=RECORDS)] = str(RUNS),
    stage: Annotated[str, typer.Option(help="final or base: after or before improving.")] = "final",
    which: Annotated[str, typer.Option(help="all, solved or unsolved.")] = "all",
    limit: Annotated[int, typer.Option(help="Samples to show.", min=1)] = 5,
    problem: Annotated[str | None, typer.Option(help="Only this problem.")] = None,
) -> None:
    """Show a run's test samples: every action with its verdict, component by component, and the feedback."""
    from rich.console import Console

    from benchmarks.records.reading import find_record
    from benchmarks.report.show import show as show_record

    show_record(find_record(readable(runs), run), Console(), stage=stage, which=which, limit=limit, problem=problem)


@app.command()
def report(
    runs: Annotated[str, typer.Option(help=RECORDS)] = str(RUNS),
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("results/report.html"),
    figures: Annotated[Path | None, typer.Option(help="Folder for pictures (SVG, PNG) and tables, too.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Serve the page on this machine, until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(help="Of --watch; 0 takes a free one.")] = 8000,
    refresh: Annotated[int, typer.Option(help="Seconds until --watch shows what is new.")] = 30,
) -> None:
    """Write one self-contained page: who wins, at what cost, how sure, and why, down to the single sample."""
    if watch:
        from benchmarks.report.watch import PageServer

        with PageServer(lambda: readable(runs), port, refresh) as server:
            typer.echo(f"{server.address} shows {runs}; Ctrl-C ends it")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return
    from benchmarks.report.page import report as write_report

    typer.echo(write_report(readable(runs), out))
    if figures is not None:
        from benchmarks.report.pictures import pictures

        typer.echo(pictures(readable(runs), figures))


@app.command()
def publish(
    runs: Annotated[str, typer.Option(help=RECORDS)] = str(RUNS),
    policy: Annotated[str, typer.Option(help="That claims and pictures are about.")] = "tiny",
    budget: Annotated[str, typer.Option(help="That claims and pictures are about.")] = "quick",
    out: Annotated[Path, typer.Option(help="Gets a folder POLICY-BUDGET.")] = Path("results/published"),
) -> None:
    """Write tables, claims, page, pictures and records without their samples, small enough to be committed."""
    from benchmarks.report.publish import publish as write_all

    typer.echo(write_all(readable(runs), policy, budget, out))


@app.command("list")
def list_names(
    group: Annotated[str | None, typer.Argument(help="algo, task, policy, budget, ...")] = None,
    name: Annotated[str | None, typer.Argument(help="One of the group.")] = None,
) -> None:
    """List what can be chosen; `list algo grpo` explains one choice and every setting that it has."""
    from benchmarks.config.listing import listing

    if group is None or name is None:
        typer.echo(listing(Path.cwd(), group))
        return
    from benchmarks.config.describe import describe

    typer.echo(describe(group, name))


@app.command(context_settings=WORDS)
def check(context: typer.Context) -> None:
    """Check that a plugin keeps the benchmark's rules: +algo=NAME, task=NAME, policy=NAME (or FILE.py:CLASS).

    A policy is checked on the task that is named, where no algorithm is: beside one, it is the policy to check with.
    Further KEY=VALUE overrides are taken as in `run`. Exit code 1 where a rule is broken.
    """
    from benchmarks.checking.conformance import check_words

    quiet_libraries()
    sys.exit(check_words(context.args, typer.echo))


@app.command(context_settings=WORDS)
def audit(
    context: typer.Context,
    problems: Annotated[int, typer.Option(help="Train problems that every player plays.", min=2)] = 100,
) -> None:
    """Show what players without a model score on a task: who quits, copies the prompt, guesses, names every answer.

    Arguments: task=NAME (or FILE.py:CLASS) and task.KEY=VALUE. Exit code 1 where one scores as it should not.
    """
    from benchmarks.checking.audit import audit_words

    sys.exit(audit_words(context.args, problems, typer.echo))


@app.command(context_settings=WORDS)
def probe(
    context: typer.Context,
    batches: Annotated[int, typer.Option(help="Batches of one update's size, the same for every algorithm.")] = 8,
    held_out: Annotated[int, typer.Option(help="Batches of other problems, for the gradient of P(solved).")] = 24,
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
    save: Annotated[bool, typer.Option("--save", help="Keep it under results/probes, as probe.json.")] = False,
) -> None:
    """Tell in minutes whether algorithms can differ: their gradients on the same batches, at the starting weights.

    Arguments: +algo=A,B:KEY=VALUE,... (a setting after a colon is that algorithm's alone), and KEY=VALUE as in `run`.
    """
    from rich.console import Console

    from benchmarks.checking.probe_command import run_probe

    quiet_libraries()
    run_probe(context.args, batches, held_out, format, save, Console())


@app.command("gpu-check", context_settings=WORDS)
def gpu_check(context: typer.Context) -> None:
    """Check that everything runs on this machine's GPU; meant to take at most five minutes.

    Arguments are overrides of the policy: policy=smollm2_135m unless others are given.
    """
    from benchmarks.checking.gpu import check_cuda

    quiet_libraries()
    sys.exit(check_cuda(context.args or ["policy=smollm2_135m"], typer.echo))


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="What to make: algo.")],
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits and _.")],
    dir: Annotated[Path, typer.Option(help="Where its folder goes.")] = Path(),
) -> None:
    """Write a new algorithm's project: one file that runs as it is, a test of it, and an entry point."""
    from benchmarks.checking.scaffold import new_algorithm

    require(kind == "algo", f"new {kind}: use `new algo NAME`")
    for path in new_algorithm(name, dir):
        typer.echo(path)


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, a run that cannot go on one line and 1."""
    try:
        app()
    except BadInput as error:
        from benchmarks.wording import one_line

        # What it quotes may come from a stranger's file, and the terminal must not obey it.
        typer.echo(f"error: {one_line(str(error))}", err=True)
        sys.exit(2)
    except RunFailed as error:
        typer.echo(f"failed: {error}", err=True)
        sys.exit(1)
