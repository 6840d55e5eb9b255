"""From the words of the command line to one run, or to Hydra's sweep of many."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.config.presets import CONF
from benchmarks.config.schema import RunConfig, check_config, compose_config, hydra_word
from benchmarks.records.record import Record
from benchmarks.records.store import is_default, readable, upload_left, uploaded
from benchmarks.resume.lock import holder
from benchmarks.running.manifest import command_line
from benchmarks.running.quiet import quiet_libraries
from benchmarks.sweep.launchers import HERE, WORD, launcher_of, words_about_runs, words_for_launcher
from benchmarks.sweep.workers import Sweep, ending_workers
from policies import ranks
from tasks.api import Task
from tasks.errors import BadInput, RunFailed, require

MULTIRUN = ("-m", "--multirun")
DRY_RUN = "--dry-run"
AT_WORK = "at work elsewhere"
NOT_UPLOADED = "complete, not uploaded"


def launch(words: Sequence[str]) -> int:
    """Run what the words say.

    Returns:
        Exit code: 0, or 1 where a run of a sweep failed.

    Raises:
        BadInput: a user's mistake, found before anything is loaded.
        RunFailed: a run that could not go on, or that another process is at work on.
        KeyboardInterrupt: Ctrl-C, which ends a sweep too; the record is marked interrupted.
    """
    with ranks.joined():
        return _launch(words)


def _launch(words: Sequence[str]) -> int:
    overrides = [word for word in words if word not in (*MULTIRUN, DRY_RUN)]
    for word in overrides:
        if word.startswith("-"):
            raise BadInput(f"unknown option {word}; run takes KEY=VALUE overrides, -m and {DRY_RUN}")
    many = any(word in MULTIRUN for word in words)
    alone = f"{DRY_RUN} and -m work in one process; leave them out, or start it without the launcher"
    require(ranks.count() == 1 or not (many or DRY_RUN in words), alone)
    if DRY_RUN in words:
        from benchmarks.sweep.plan import plan

        if many:
            raise BadInput(f"{DRY_RUN} plans one run; leave out -m and give one value per key")
        Console().print(plan(check_config(compose_config(overrides))), highlight=False, markup=False, soft_wrap=True)
        return 0
    if many:
        return sweep(overrides)
    if any(word.startswith(WORD) for word in overrides):
        raise BadInput(f"{WORD} is for sweeps; add -m")
    config = check_config(compose_config(overrides))
    upload_what_is_left(config)
    run_one(config, overrides)
    return 0


def upload_what_is_left(config: RunConfig) -> None:
    """Where records go to a store: upload those that an earlier command could not.

    Raises:
        RunFailed: the store is away.
    """
    if config.store:
        upload_left(config.store, config.results, print)


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
    console.print(f"record: {config.where}/{name}", highlight=False, soft_wrap=True)
    render(read_table(readable(config.where, name), only=name), "text", console)
    where = "" if is_default(config.where) else f" --runs {config.where}"
    console.print(f"samples: python -m benchmarks show {name}{where}", highlight=False, soft_wrap=True)


def combinations(overrides: Sequence[str]) -> list[list[str]]:
    """Hydra's words for every run of a sweep, as Hydra will split them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [list(words) for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for words in batch]


def choices(word: str) -> list[tuple[str, str]]:
    """Per value of a sweep's word: the override that Hydra gets, and the one that a user would type for it."""
    key, _, value = word.partition("=")
    typed = [f"{key}={choice}" for choice in value.split(",")]
    return [(hydra_word(each), each) for each in typed]


def sweep(overrides: Sequence[str]) -> int:
    """Every combination of the comma-separated values, through Hydra's multirun."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    launcher = launcher_of(overrides)
    overrides = [word for word in overrides if not word.startswith(WORD)]
    typed = {hydra: word for given in overrides for hydra, word in choices(given)}
    words_for_hydra = [hydra_word(word) for word in overrides]
    whole = Sweep(watched=launcher == "joblib")

    def job(config: DictConfig) -> None:
        with whole.at_work():
            quiet_libraries()  # A launcher may have started another process.
            words = [typed.get(word, word) for word in words_about_runs(HydraConfig.get().overrides.task)]
            run_in_sweep(check_config(config), words)

    planned = [
        Planned([typed.get(word, word) for word in words], check_config(compose_config(words)))
        for words in combinations(words_about_runs(words_for_hydra))
    ]
    stores = {config.store: config for config in (each.config for each in planned) if config.store}
    for config in stores.values():
        upload_what_is_left(config)
        # Hydra would make folders of the URL.
        quoted = str(config.results / ".sweeps").replace("'", r"\'")
        words_for_hydra.append(f"hydra.sweep.dir='{quoted}'")
    launching = words_for_launcher(launcher, overrides, len(planned))
    arguments, sys.argv = sys.argv, [sys.argv[0], "-m", *launching, *words_for_hydra]
    try:
        with ending_workers(each.config.results for each in planned):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
            for each in planned:
                if launcher in HERE and each.abandoned():
                    run_in_sweep(each.config, each.words)
    except KeyboardInterrupt:
        conclude(planned)
        if launcher == "slurm":
            print("the jobs in SLURM's queue go on without this command; scancel ends them", file=sys.stderr)
        raise
    except SystemExit:
        # Hydra has said why: not a run, of which none raises anything, but the launcher failed, or a worker was killed.
        return conclude(planned) or 1
    finally:
        sys.argv = arguments
    return conclude(planned)


def run_in_sweep(config: RunConfig, words: Sequence[str]) -> None:
    """One run, whose failure must not end the sweep."""
    try:
        run_one(config, words)
    except Exception as error:
        print(f"{' '.join(words)}: {error}", file=sys.stderr)


@dataclass(frozen=True, slots=True)
class Planned:
    """A run of a sweep."""

    words: list[str]
    config: RunConfig

    def state(self) -> str:
        """How far it is, whoever ran it: a record's status, `not run`, or who is at work on it."""
        task: Task = self.config.task_class(self.config.task)
        name = self.config.run_name(task.fingerprint())
        results, url = self.config.results, self.config.store
        here = Record(results / name).status
        if other := holder(results, name):
            return f"{AT_WORK} ({other})"
        if url and here in (None, "complete"):
            return NOT_UPLOADED if here else "complete" if uploaded(url, name) else "not run"
        return here or "not run"

    def abandoned(self) -> bool:
        """Whether its process ended without a word: another sweep's, which had it when its turn came here."""
        return self.state() == "running"


def conclude(planned: Sequence[Planned]) -> int:
    """Say how a sweep ended, from the records alone. Exit code 1 if a run neither is complete nor may become so."""
    found = [(each.state(), " ".join(each.words)) for each in planned]
    left = [(state, words) for state, words in found if state != "complete"]
    print(f"sweep: {len(found) - len(left)} of {len(found)} runs complete", file=sys.stderr)
    for state, words in left:
        print(f"{state}: {words}", file=sys.stderr)
    return int(any(not state.startswith(AT_WORK) for state, _ in left))
