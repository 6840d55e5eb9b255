"""`make soak`: break runs and sweeps off, feed hostile inputs, and count in one table what was lost.

Runs of every algorithm are killed at random moments and at every fsync and rename, have their newest state damaged and
their disk filled (kills.py); two sweeps over one grid are killed again and again (sweeps.py); and everything that reads
a stranger's bytes is fed over a million inputs (tests/fuzz). Exit code 1 where anything was lost or crashed.

    python tests/soak/soak.py [--kills 20] [--share 1.0] [--processes 2] [--seed 0] [NAME ...]
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))

from kills import ALGORITHMS, Soak, Tally

SWEEPS, PARSERS = "sweeps", "parsers"
HEADER = "| what | faults injected | survived | updates lost | bytes lost | inputs tried | crashes | took |"


def one(name: str, folder: Path, kills: int, seed: int) -> Tally:
    """All faults for one algorithm, or for sweeps."""
    if name == SWEEPS:
        from sweeps import soak_sweeps

        return soak_sweeps(folder, kills, seed)
    return Soak(name, folder, seed).all_rounds(kills)


def in_a_fork(name: str, folder: Path, kills: int, seed: int) -> tuple[Tally | None, float]:
    """The same in a process of its own, so that its forks share no thread with others; None where it failed."""
    began, said = time.monotonic(), folder / "tally.json"

    def work() -> None:
        try:
            said.write_text(json.dumps(asdict(one(name, folder, kills, seed))), encoding="utf-8")
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    tally = Tally(**json.loads(said.read_text(encoding="utf-8"))) if said.exists() else None
    return tally, time.monotonic() - began


def main() -> int:
    """Returns 1 where anything was lost, crashed, or could not be tried."""
    from fuzz import fuzz
    from targets import TARGETS

    from benchmarks.running.quiet import quiet_libraries

    everything = [*ALGORITHMS, SWEEPS, PARSERS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=everything, metavar="NAME", help=f"of {', '.join(everything)}")
    parser.add_argument("--kills", type=int, default=20, help="at random moments, for each algorithm and for sweeps")
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs that each parser gets")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    quiet_libraries()
    for module in ("gepa.api", "algorithms.trainer_state", "algorithms.trainer", "benchmarks.running.warmstart"):
        importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    began, bad = time.monotonic(), 0
    faults = survived = updates = lost = tried = crashes = 0
    victims = [name for name in given.names if name != PARSERS]
    parsers = list(TARGETS) if PARSERS in given.names else []
    print(HEADER, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="grpo-bench-soak-") as scratch, ThreadPoolExecutor(given.processes) as pool:
        folders = [Path(scratch) / name for name in victims]
        for folder in folders:
            folder.mkdir()
        broken = pool.map(
            lambda pair: in_a_fork(pair[0], pair[1], given.kills, given.seed), zip(victims, folders, strict=True)
        )
        fed = pool.map(lambda name: fuzz(name, given.share, TARGETS[name].inputs), parsers)
        for name, (tally, took) in zip(victims, broken, strict=True):
            if tally is None:
                bad += 1
                print(f"| {name} | failed; its traceback is above |", flush=True)
                continue
            kinds = ", ".join(f"{count} {kind}" for kind, count in tally.faults.items())
            number = sum(tally.faults.values())
            faults, survived = faults + number, survived + tally.survived
            updates, lost = updates + tally.updates_lost, lost + tally.bytes_lost
            row = (
                f"{number} ({kinds}) | {tally.survived} | {tally.updates_lost} | {tally.bytes_lost} | | | {took:,.0f} s"
            )
            print(f"| {tally.name} | {row} |", flush=True)
        for name, (inputs, crashed, _, took, told) in zip(parsers, fed, strict=True):
            tried, crashes = tried + inputs, crashes + crashed
            print(f"| parser: {name} | | | | | {inputs:,} | {crashed} | {took:,.0f} s |", flush=True)
            if told:
                print(told, file=sys.stderr, flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"| all | {faults} | {survived} | {updates} | {lost} | {tried:,} | {crashes} | {minutes:.0f} min |")
    return int(bad or crashes or updates or lost or survived < faults)


if __name__ == "__main__":
    sys.exit(main())
