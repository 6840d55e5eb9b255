"""Us against what a user would write, and against limits: `python tests/performance/bench.py`, or `make bench`.

Every case is a fresh process. In each round it runs the case's sides one after the other, beginning with another one
each time; a ratio is taken within a round, and the median over rounds is shown: what else the machine does at that time
touches both sides. Ratios of CPU seconds stand beside those of wall seconds; where the processor is shared, they are
the ones to trust. What was found goes to results/performance/COMMIT.json; `compare.py` reads it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STORE = HERE.parents[1] / "results" / "performance"
KINDS = ("wall_s", "cpu_s")
NAMES = (
    "grpo tiny",
    "grpo qwen2 20M",
    "wordle rollouts",
    "wordle rollouts 256",
    "135M mixed lengths",
    "turns",
    "evaluation",
    "feedback table",
)


def child(name: str, rounds: int) -> None:
    """Print one line a round: every side of a case once."""
    sys.path.insert(0, str(HERE))
    import torch
    from cases import CASES

    case = CASES[name]
    sides = list(case.sides)
    about = {"about": case.about, "unit": case.unit, "targets": dict(case.targets)}
    about["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    for number in range(rounds):
        first = number % len(sides)
        found = {side: case.sides[side]() for side in sides[first:] + sides[:first]}
        seconds = {side: dict(zip(KINDS, found[side], strict=True)) for side in sides}
        print(json.dumps(about | {"sides": seconds}), flush=True)


def measured(name: str, rounds: int, threads: int) -> Iterator[dict[str, Any]]:
    """The rounds of a case, in a process of its own, as they come."""
    words = [sys.executable, str(Path(__file__).resolve()), "--child", name, "--rounds", str(rounds)]
    settings = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TRL_EXPERIMENTAL_SILENCE": "1"}
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | settings | {"PYTHONPATH": path}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"about"'):
                yield json.loads(line)
        if process.wait():
            errors.seek(0)
            raise SystemExit(f"{name}: {errors.read().strip()[-2000:]}")


def summed_up(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over rounds: seconds of each side, and the ratios of the first side to each other one."""
    ours, *others = rounds[0]["sides"]
    return {
        **{key: rounds[0][key] for key in ("about", "unit", "targets", "device")},
        "rounds": [each["sides"] for each in rounds],
        "seconds": {
            side: {kind: statistics.median(each["sides"][side][kind] for each in rounds) for kind in KINDS}
            for side in (ours, *others)
        },
        "ratios": {
            other: {
                kind: statistics.median(each["sides"][ours][kind] / each["sides"][other][kind] for each in rounds)
                for kind in KINDS
            }
            for other in others
        },
    }


def lines(name: str, case: dict[str, Any]) -> list[str]:
    """A case as text."""
    ours = next(iter(case["seconds"]))
    out = [f"{name} ({case['about']}; {len(case['rounds'])} rounds, {case['device']})"]
    for side, seconds in case["seconds"].items():
        line = f"  {side:24} {seconds['wall_s']:10.4g} s wall {seconds['cpu_s']:10.4g} s CPU a {case['unit']}"
        if side != ours:
            ratio = case["ratios"][side]
            line += f"   ours/it: {ratio['wall_s']:.3f} wall, {ratio['cpu_s']:.3f} CPU"
        if side in case["targets"]:
            line += f"   target at most {case['targets'][side]:.3g}"
        out.append(line)
    if name == "turns":
        out += [f"  time grows as turns^{exponent(case, kind):.2f} ({kind}); target 1.15" for kind in KINDS]
    return out


def exponent(case: dict[str, Any], kind: str) -> float:
    """Slope of log time over log turns, least squares over the sides."""
    points = [(math.log(int(side.split()[0])), math.log(each[kind])) for side, each in case["seconds"].items()]
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope


def machine(threads: int) -> dict[str, Any]:
    """Where the figures come from."""
    from importlib.metadata import version

    cpu = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "numpy")}
    return {"cpu": cpu, "cores": os.cpu_count(), "threads": threads, "packages": packages}


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def commit() -> str:
    """The commit that is measured; `-dirty` where files differ from it."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of each process; 1 where other work shares the cores")
    parser.add_argument("--cases", default=",".join(NAMES), help="some of them")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.rounds)
        return
    chosen = arguments.cases.split(",")
    if unknown := [name for name in chosen if name not in NAMES]:
        raise SystemExit(f"no case {', '.join(unknown)}; there are: {' | '.join(NAMES)}")
    file = STORE / f"{commit()}.json"
    for name in chosen:
        began, load = time.time(), os.getloadavg()[0]
        rounds = []
        for each in measured(name, arguments.rounds, arguments.threads):
            rounds.append(each)
            case = summed_up(rounds) | {"measured_at": round(began), "machine": machine(arguments.threads)}
            case["load_average"] = [round(load, 1), round(os.getloadavg()[0], 1)]
            known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"cases": {}}
            known["cases"][name] = case
            STORE.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        print("\n".join(lines(name, case)), flush=True)


if __name__ == "__main__":
    main()
