"""From the words of the command line to one run, or to a sweep of many on one of Hydra's launchers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from benchmarks.config.schema import CONFIG, RunConfig, check_config, compose_config, hydra_of
from benchmarks.records.store import is_default, readable, upload_left
from benchmarks.running.manifest import command_line
from benchmarks.running.quiet import quiet_libraries
from benchmarks.sweep.launchers import HERE, WORD, refuse_missing
from benchmarks.sweep.runs import AT_WORK, PlannedRun, planned
from benchmarks.sweep.workers import Sweep, ending_workers
from benchmarks.wording import one_line
from policies import ranks
from tasks.errors import RunFailed, require


def launch(
    overrides: Sequence[str], *, many: bool = False, dry_run: bool = False, config_dir: Path | None = None
) -> int:
    """Run what the words say.

    Args:
        overrides: words as Hydra reads them.
        many: sweep over values separated by commas, and over those of an experiment.
        dry_run: print the plan of one run instead.
        config_dir: a folder with further presets.

    Returns:
        Exit code: 0, or 1 where a run of a sweep failed.

    Raises:
        BadInput: a user's mistake, found before anything is loaded.
        RunFailed: a run that could not go on, or that another process is at work on.
        KeyboardInterrupt: Ctrl-C, which ends a sweep too; the record is marked interrupted.
    """
    with ranks.joined():
        alone = "--dry-run and -m work in one process; leave them out, or start it without the launcher"
        require(ranks.count() == 1 or not (many or dry_run), alone)
        require(not (many and dry_run), "--dry-run plans one run; leave out -m and give one value per key")
        if many:
            return sweep(overrides, config_dir)
        require(not any(word.startswith(WORD) for word in overrides), f"{WORD} is for sweeps; add -m")
        config = check_config(compose_config(overrides, config_dir))
        if dry_run:
            from benchmarks.sweep.plan import plan

            Console().print(plan(config), highlight=False, markup=False, soft_wrap=True)
            return 0
        upload_what_is_left(config)
        run_one(config, overrides)
        return 0


def show(overrides: Sequence[str], config_dir: Path | None, **how: Any) -> None:
    """Print what Hydra's --cfg (how: cfg_type, package, resolve) or --info (how: info) print."""
    from hydra.types import RunMode

    with hydra_of(overrides, config_dir) as (hydra, words):
        if "info" in how:
            hydra.show_info(how["info"], CONFIG, words, RunMode.MULTIRUN)
        else:
            hydra.show_cfg(CONFIG, words, **how)


def upload_what_is_left(config: RunConfig) -> None:
    """Where records go to a store: upload those that an earlier command could not.

    Raises:
        RunFailed: the store is away.
    """
    if config.results.store:
        upload_left(config.results.store, config.results.folder, print)


def run_one(config: RunConfig, overrides: Sequence[str]) -> None:
    """One run and its row of the table.

    Raises:
        RunFailed: among others, because another process is at work on it.
    """
    from benchmarks.analysis.table import read_table, render
    from benchmarks.running.run import run

    console = Console(quiet=not ranks.is_first())
    outcome = run(config, console, command_line(["run", *overrides]))
    if outcome.held_by:
        raise RunFailed(f"{outcome.record.name}: {outcome.held_by} is at work on it")
    if not ranks.is_first():
        return
    if not outcome.ran:
        console.print(f"{outcome.record.name} is complete already; force=true runs it again", highlight=False)
    name = outcome.record.name
    console.print(f"record: {config.results.where}/{name}", highlight=False, soft_wrap=True)
    render(read_table(readable(config.results.where, name), only=name), "text", console)
    where = "" if is_default(config.results.where) else f" --runs {config.results.where}"
    console.print(f"samples: python -m benchmarks show {name}{where}", highlight=False, soft_wrap=True)


def sweep(overrides: Sequence[str], config_dir: Path | None) -> int:
    """Every combination of the comma-separated values, and of an experiment's hydra.sweeper.params."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.types import HydraContext

    launching = [word for word in overrides if word.startswith(WORD)]
    for word in launching:
        refuse_missing(word)
    hydra, master = master_of(overrides, config_dir)
    runs = planned(combinations(master), config_dir)
    for config in {run.config.results.store: run.config for run in runs if run.config.results.store}.values():
        upload_what_is_left(config)
        # Hydra would make folders of the URL.
        quoted = str(config.results.folder / ".sweeps").replace("'", r"\'")
        hydra, master = master_of([*overrides, f"hydra.sweep.dir='{quoted}'"], config_dir)
    name = master.hydra.runtime.choices.get("launcher")
    if name == "joblib" and master.hydra.launcher.n_jobs == -1:
        from joblib import cpu_count

        master.hydra.launcher.n_jobs = min(cpu_count(), len(runs))
    whole = Sweep(watched=name == "joblib")

    def job(config: DictConfig) -> None:
        with whole.at_work():
            quiet_libraries()  # A launcher may have started another process.
            run_in_sweep(check_config(config), about_runs(HydraConfig.get().overrides.task))

    # The rest may hold classes of a user's file, which another process cannot unpickle, and composes anew.
    master = OmegaConf.masked_copy(master, ["hydra", "results"])
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(master))
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=job, config=master)
    try:
        with ending_workers(run.config.results.folder for run in runs):
            for done in launcher.launch([run.words + launching for run in runs], initial_job_idx=0):
                _ = done.return_value
            for run in runs:
                # Its process ended without a word: another sweep's, which had it when its turn came here.
                if name in HERE and run.state() == "running":
                    run_in_sweep(run.config, run.words)
    except KeyboardInterrupt:
        conclude(runs)
        if name == "slurm":
            print("the jobs in SLURM's queue go on without this command; scancel ends them", file=sys.stderr)
        raise
    except Exception as error:  # No run raises anything: the launcher failed, or a worker was killed.
        print(f"{name or 'sweep'}: {one_line(str(error))}", file=sys.stderr)
        return conclude(runs) or 1
    return conclude(runs)


def master_of(overrides: Sequence[str], config_dir: Path | None) -> tuple[Any, DictConfig]:
    """Hydra, and the configuration of a sweep, in which what is swept is left open."""
    from hydra.types import RunMode

    with hydra_of(overrides, config_dir) as (hydra, words):
        return hydra, hydra.compose_config(CONFIG, words, RunMode.MULTIRUN, with_log_configuration=True)


def combinations(master: DictConfig) -> list[list[str]]:
    """The words of every run of a sweep, as Hydra's own sweeper splits them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
    words += about_runs(master.hydra.overrides.task)
    parsed = OverridesParser.create().parse_overrides(words)
    batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    # Hydra escapes the colon of FILE.py:CLASS, which it reads as well without.
    return [[word.replace("\\:", ":") for word in run] for batch in batches for run in batch]


def about_runs(words: Sequence[str]) -> list[str]:
    """The words that say what is run, without the one that says how."""
    return [word for word in words if not word.startswith(WORD)]


def run_in_sweep(config: RunConfig, words: Sequence[str]) -> None:
    """One run, whose failure must not end the sweep."""
    try:
        run_one(config, words)
    except Exception as error:
        print(f"{' '.join(words)}: {error}", file=sys.stderr)


def conclude(runs: Sequence[PlannedRun]) -> int:
    """Say how a sweep ended, from the records alone. Exit code 1 if a run neither is complete nor may become so."""
    found = [(run.state(), " ".join(run.words)) for run in runs]
    left = [(state, words) for state, words in found if state != "complete"]
    print(f"sweep: {len(found) - len(left)} of {len(found)} runs complete", file=sys.stderr)
    for state, words in left:
        print(f"{state}: {words}", file=sys.stderr)
    return int(any(not state.startswith(AT_WORK) for state, _ in left))
