"""Two sweeps over the same grid at once, killed (SIGKILL) at random moments and begun again until all is complete."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from broken_off import SMALL, outcome
from kills import GAME, Tally, difference

from benchmarks.records.record import records

GRID = (*SMALL, *GAME, "+algo=grpo,rft", "seed=0,1,2", "budget.updates=8", "results.keep_policy=false")


def begin(place: Path) -> subprocess.Popen[bytes]:
    """One sweep, in a process of its own that says nothing."""
    command = [sys.executable, "-m", "benchmarks", "run", "-m", f"results.dir={place}", *GRID]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def soak_sweeps(folder: Path, kills: int, seed: int) -> Tally:
    """Kill one of two sweeps again and again; both must end well, with the records of an undisturbed one."""
    rng, tally, began = random.Random(f"{seed} sweeps"), Tally("two sweeps over one grid"), time.monotonic()
    if begin(folder / "whole").wait():
        raise SystemExit("a sweep that nothing disturbed failed")
    whole = {record.name: outcome(record) for record in records(folder / "whole")}
    took_s, killed = time.monotonic() - began, 0
    # Enough moments for all kills, though a sweep that finds everything complete ends at once.
    for number in range(100 * kills):
        place = folder / str(number)
        before, sweeps = killed, [begin(place), begin(place)]
        while killed < kills and all(sweep.poll() is None for sweep in sweeps):
            time.sleep(rng.uniform(0.1, 0.4) * took_s)
            victim = rng.choice(sweeps)
            if victim.poll() is None:
                victim.kill()
                victim.wait()
                killed += 1
                sweeps[sweeps.index(victim)] = begin(place)
        codes = [sweep.wait() for sweep in sweeps]
        found = {record.name: record for record in records(place)}
        wrong = [name for name in whole if name not in found]
        for name in whole.keys() & found.keys():
            lost, unlike = difference(found[name], whole[name])
            tally.bytes_lost += lost
            wrong += [f"{name}: {each}" for each in unlike]
        if wrong or any(codes):
            print(f"sweeps: exit codes {codes}; {'; '.join(wrong)}", file=sys.stderr, flush=True)
        tally.count("killed at random", killed - before, survived=not wrong and not any(codes))
        if killed >= kills:
            break
    return tally
